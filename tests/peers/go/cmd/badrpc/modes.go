package main

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"net"
	"net/rpc"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"pygo-plugin.example/peers/internal/rpcpeer"
)

// Sizes of floods: more than a host may keep.
const (
	manyStreams   = 2000
	manyResponses = 20_000
	longText      = 32 << 20
)

// hugeMessage is the byte count of a message of 16 GiB, as gob writes it.
var hugeMessage = []byte{0xfb, 0x04, 0, 0, 0, 0}

var modes = map[string]struct {
	help string
	bad  bad
}{
	"good": {"do nothing wrong", bad{}},

	// Connections.
	"garbage":        {"write random bytes instead of TLS or yamux", bad{connection: writeGarbage}},
	"silent":         {"take the connection and say nothing", bad{connection: func(net.Conn) { hold() }}},
	"close":          {"close each connection at once", bad{connection: func(conn net.Conn) { conn.Close() }}},
	"no-streams":     {"never accept a stream", bad{session: func(*yamux.Session) { hold() }}},
	"close-streams":  {"close the streams that the host opens", bad{session: closeStreams}},
	"close-session":  {"close the session once the host has opened its streams", bad{beside: func(s *yamux.Session) { s.Close() }}},
	"garbage-frames": {"write random bytes within yamux's connection", bad{secured: writeGarbage}},

	// Brokered streams.
	"no-ids":      {"open streams and never send their four bytes", bad{beside: streamsWith(nil)}},
	"half-ids":    {"open streams and send two of their four bytes", bad{beside: streamsWith([]byte{1, 0})}},
	"unknown-ids": {"open streams with ids that nobody waits for", bad{beside: streamsWith([]byte{0xff, 0xff, 0xff, 0x7f})}},
	"no-ack":      {"never answer the four bytes of a dispensed stream", bad{dispensed: func(net.Conn, [4]byte) {}}},
	"wrong-ack":   {"answer them with others", bad{dispensed: func(conn net.Conn, _ [4]byte) { conn.Write([]byte("ack!")) }}},
	"close-ack":   {"close the stream instead", bad{dispensed: func(conn net.Conn, _ [4]byte) { conn.Close() }}},
	"dial-twice":  {"dial the host's id twice, and succeed if one of the two works", bad{calledBack: dialTwice}},

	// Answers to calls.
	"never":        {"do not answer", bad{spoil: func(*call) {}}},
	"wrong-seq":    {"answer a request that there was not", bad{spoil: func(c *call) { c.respond(c.Seq+1000, c.reply) }}},
	"twice":        {"answer twice", bad{spoil: func(c *call) { c.answer(); c.answer() }}},
	"unasked":      {"answer many requests that there were not, then the one that there was", bad{spoil: unasked}},
	"wrong-type":   {"answer with a value of another type", bad{spoil: func(c *call) { c.respond(c.Seq, map[string]int{"wrong": 1}) }}},
	"no-body":      {"answer without a reply", bad{spoil: noBody}},
	"long-error":   {"answer with an error of 32 MiB", bad{spoil: longError}},
	"garbage-gob":  {"answer with random bytes", bad{spoil: func(c *call) { c.write(randomBytes()) }}},
	"huge-gob":     {"announce a message of 16 GiB, and send some of it", bad{spoil: hugeGob}},
	"truncated":    {"close the stream in the middle of the answer", bad{spoil: truncated}},
	"close-call":   {"close the stream instead of answering", bad{spoil: func(c *call) { c.conn.Close() }}},
	"die":          {"exit with status 7 instead of answering", bad{spoil: func(*call) { os.Exit(7) }}},
	"kill":         {"die of SIGKILL instead of answering", bad{spoil: killSelf}},
	"flood":        {"print to stdout without end", bad{output: flood}},
	"close-stdout": {"close the stream of stdout", bad{output: func(conn net.Conn) { conn.Close() }}},

	// The end.
	"quit-never": {"never answer Quit; ignore SIGTERM", bad{stubborn: true, quit: func(*call) {}}},
	"quit-stay":  {"answer Quit and go on; ignore SIGTERM", bad{stubborn: true, quit: (*call).answer}},
	"quit-close": {"close the connection's control stream instead of answering Quit, and go on", bad{stubborn: true, quit: func(c *call) { c.conn.Close() }}},
}

func hold() { time.Sleep(time.Hour) }

// randomBytes are always the same.
func randomBytes() []byte {
	data := make([]byte, 100_000)
	rand.New(rand.NewSource(7)).Read(data)
	return data
}

func writeGarbage(conn net.Conn) {
	_, _ = conn.Write(randomBytes())
	hold()
}

func closeStreams(session *yamux.Session) {
	for {
		conn, err := session.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

// streamsWith opens many streams that begin with these bytes.
func streamsWith(head []byte) func(*yamux.Session) {
	return func(session *yamux.Session) {
		for range manyStreams {
			conn, err := session.Open()
			if err != nil {
				complain(err)
				return
			}
			if _, err := conn.Write(head); err != nil {
				complain(err)
				return
			}
		}
	}
}

func dialTwice(session *yamux.Session, arguments rpcpeer.CallBackArgs) error {
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- callOnce(session, arguments) }()
	}
	first, second := <-results, <-results
	if first == nil && second == nil {
		return errors.New("both were accepted")
	}
	if first != nil && second != nil {
		return errors.Join(first, second)
	}
	return nil
}

func unasked(c *call) {
	for i := range uint64(manyResponses) {
		c.respond(c.Seq+1+i, c.reply)
	}
	c.answer()
}

func noBody(c *call) {
	c.encode(&rpc.Response{ServiceMethod: c.ServiceMethod, Seq: c.Seq})
}

func longError(c *call) {
	header := &rpc.Response{ServiceMethod: c.ServiceMethod, Seq: c.Seq, Error: strings.Repeat("x", longText)}
	c.encode(header, struct{}{})
}

func hugeGob(c *call) {
	c.write(hugeMessage)
	for range 64 {
		c.write(bytes.Repeat([]byte{1}, 1<<16))
	}
}

func truncated(c *call) {
	c.write([]byte{0x40, 0x01, 0x02}) // of 64
	c.conn.Close()
}

func killSelf(*call) {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	hold()
}

func flood(conn net.Conn) {
	_, _ = io.Copy(conn, endless{})
}

// endless is a reader of lines.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("a line of the flood\n"), 1+len(p)/20)), nil
}
