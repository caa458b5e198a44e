// Command yamux is one end of a session of hashicorp/yamux, to test another implementation against;
// tests/peers/c/yamux.c is its twin on ours, with the same arguments.
//
//	yamux serve|drive listen|connect NETWORK ADDRESS [many|large|stalled]
//
// Who listens is yamux's server. It prints "listening" when it does. One of the two serves: for each
// stream it reads a request of 13 bytes (operation, size u64, seed u32, big-endian) and obeys. The
// other drives: it opens the streams that the named test consists of, checks every byte, and prints
// a line of JSON. What is sent is a pattern that depends on seed and offset.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	opEcho   = 'e' // send back what comes, until it ends
	opSend   = 's' // send size bytes, then end
	opTake   = 't' // take size bytes until the end, then say whether they were right: 'k'
	opReset  = 'r' // close the stream without reading
	opIgnore = 'i' // never read

	period    = 65521
	patternMB = 1 << 20
)

var pattern = makePattern()

func makePattern() []byte {
	all := make([]byte, period+patternMB)
	for i := range all {
		n := uint32(i % period)
		all[i] = byte(n*n>>7 ^ n>>3 ^ n)
	}
	return all
}

// slice gives the pattern from an offset on, at most max bytes of it.
func slice(seed uint32, offset, max uint64) []byte {
	start := (uint64(seed) + offset) % period
	if max > patternMB {
		max = patternMB
	}
	return pattern[start : start+max]
}

func send(w io.Writer, seed uint32, size uint64) error {
	for offset := uint64(0); offset < size; {
		part := slice(seed, offset, min(size-offset, 64*1024))
		if _, err := w.Write(part); err != nil {
			return err
		}
		offset += uint64(len(part))
	}
	return nil
}

// take reads until the end and compares.
func take(r io.Reader, seed uint32, size uint64) error {
	buffer := make([]byte, 256*1024)
	offset := uint64(0)
	for {
		n, err := r.Read(buffer)
		if offset+uint64(n) > size {
			return fmt.Errorf("more than %d bytes", size)
		}
		if !bytes.Equal(buffer[:n], slice(seed, offset, uint64(n))) {
			return fmt.Errorf("wrong bytes after %d", offset)
		}
		offset += uint64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if offset != size {
		return fmt.Errorf("%d bytes of %d", offset, size)
	}
	return nil
}

func serve(session *yamux.Session) {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go obey(stream)
	}
}

func obey(stream *yamux.Stream) {
	defer stream.Close()
	var request [13]byte
	if _, err := io.ReadFull(stream, request[:]); err != nil {
		return
	}
	size := binary.BigEndian.Uint64(request[1:])
	seed := binary.BigEndian.Uint32(request[9:])
	switch request[0] {
	case opEcho:
		io.Copy(stream, stream)
	case opSend:
		send(stream, seed, size)
	case opTake:
		if take(stream, seed, size) == nil {
			stream.Write([]byte{'k'})
		}
	case opReset:
	case opIgnore:
		<-stream.Session().CloseChan()
	}
}

func open(session *yamux.Session, op byte, size uint64, seed uint32) (*yamux.Stream, error) {
	stream, err := session.OpenStream()
	if err != nil {
		return nil, err
	}
	request := binary.BigEndian.AppendUint64([]byte{op}, size)
	request = binary.BigEndian.AppendUint32(request, seed)
	_, err = stream.Write(request)
	return stream, err
}

func run(session *yamux.Session, op byte, size uint64, seed uint32) error {
	stream, err := open(session, op, size, seed)
	if err != nil {
		return err
	}
	defer stream.Close()
	switch op {
	case opEcho:
		done := make(chan error, 1)
		go func() {
			err := send(stream, seed, size)
			stream.Close() // ends our direction alone
			done <- err
		}()
		if err := take(stream, seed, size); err != nil {
			return err
		}
		return <-done
	case opSend:
		return take(stream, seed, size)
	case opTake:
		if err := send(stream, seed, size); err != nil {
			return err
		}
		stream.Close()
		answer, err := io.ReadAll(stream)
		if err != nil || string(answer) != "k" {
			return fmt.Errorf("answer %q, %v", answer, err)
		}
	case opReset:
		if err := send(stream, seed, size); err == nil {
			return errors.New("an unread stream took everything")
		}
	}
	return nil
}

func many(session *yamux.Session) error {
	const count = 1000
	var group sync.WaitGroup
	failures := make(chan error, count)
	for i := range count {
		op := "esteste"[i%7]
		size := uint64(rand.Intn(64 * 1024))
		if i%40 == 0 {
			size *= 40
		}
		if i%25 == 7 {
			op, size = opReset, 4<<20
		}
		group.Add(1)
		go func() {
			defer group.Done()
			if err := run(session, op, size, uint32(i)); err != nil {
				failures <- fmt.Errorf("stream %d, %c of %d bytes: %w", i, op, size, err)
			}
		}()
	}
	group.Wait()
	close(failures)
	return <-failures
}

func large(session *yamux.Session) error {
	for _, op := range []byte{opTake, opSend} {
		if err := run(session, op, 1<<30, 5); err != nil {
			return fmt.Errorf("%c: %w", op, err)
		}
	}
	return nil
}

func stalled(session *yamux.Session) error {
	for i := range 10 {
		stream, err := open(session, opIgnore, 0, 0)
		if err != nil {
			return err
		}
		go send(stream, uint32(i), 16<<20)
	}
	for i := range 50 {
		if err := run(session, opEcho, 300_000, uint32(i)); err != nil {
			return err
		}
	}
	return nil
}

func connect(how, network, address string) (net.Conn, error) {
	if how == "connect" {
		return net.Dial(network, address)
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	fmt.Println("listening")
	return listener.Accept()
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 5 {
		log.Fatal("usage: yamux serve|drive listen|connect NETWORK ADDRESS [many|large|stalled]")
	}
	conn, err := connect(os.Args[2], os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	if os.Args[1] == "serve" {
		// Go resets a stream when it has been half-closed for this time, and then loses what is
		// still to come. The time is long enough for the other streams on a busy machine.
		config.StreamCloseTimeout = 5 * time.Second
	}
	make := yamux.Client
	if os.Args[2] == "listen" {
		make = yamux.Server
	}
	session, err := make(conn, config)
	if err != nil {
		log.Fatal(err)
	}
	if os.Args[1] == "serve" {
		serve(session)
		return
	}
	tests := map[string]func(*yamux.Session) error{"many": many, "large": large, "stalled": stalled}
	begun := time.Now()
	err = tests[os.Args[5]](session)
	result := map[string]any{"seconds": time.Since(begun).Seconds(), "error": nil}
	if err != nil {
		result["error"] = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(result)
	session.Close()
}
