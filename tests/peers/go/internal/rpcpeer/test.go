package rpcpeer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	types "pygo-plugin.example/peers/internal/gobtypes"
	"pygo-plugin.example/peers/internal/peer"
)

// Test is an object whose methods behave in ways that tests need. Either side serves one.
type Test struct {
	side   string // "plugin" or "host"
	broker *plugin.MuxBroker
	logger hclog.Logger

	mu      sync.Mutex
	blocked map[string]chan struct{} // Closed by Release.
	written map[uint32]chan Digest   // What came through lent writers.
}

// NewTest makes the object of one side. The broker and the logger may be nil, for those who do
// without.
func NewTest(side string, broker *plugin.MuxBroker, logger hclog.Logger) *Test {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return &Test{
		side:    side,
		broker:  broker,
		logger:  logger,
		blocked: make(map[string]chan struct{}),
		written: make(map[uint32]chan Digest),
	}
}

// ---- Ordinary calls ----

// Echo returns its argument.
func (t *Test) Echo(in []byte, out *[]byte) error { return echo(in, out) }

// Order returns its argument.
func (t *Test) Order(in types.Order, out *types.Order) error { return echo(in, out) }

// Greet takes nothing of a type that is any.
func (t *Test) Greet(_ any, out *string) error { return echo("Hello from the "+t.side+"!", out) }

// Describe says what came as an interface value.
func (t *Test) Describe(in map[string]any, out *string) error {
	return echo(fmt.Sprintf("%v", in), out) // Maps are printed in the order of their keys.
}

// Info tells about the process.
func (t *Test) Info(_ types.Nothing, out *Info) error {
	descriptors, err := peer.Descriptors()
	*out = Info{Pid: os.Getpid(), Goroutines: runtime.NumGoroutine(), Descriptors: descriptors}
	return err
}

// ---- Errors ----

// Fail returns an error with this text.
func (t *Test) Fail(text string, _ *types.Nothing) error { return errors.New(text) }

// FailBasic returns a BasicError.
func (t *Test) FailBasic(text string, _ *types.Nothing) error {
	return plugin.NewBasicError(errors.New(text))
}

// Divide has the error in its reply, as plugins do that want more than a text.
func (t *Test) Divide(in DivideArgs, out *DivideReply) error {
	if in.B == 0 {
		out.Error = plugin.NewBasicError(errors.New("division by zero"))
	} else {
		out.Quotient = in.A / in.B
	}
	return nil
}

// FailInside returns an error as an interface value.
func (t *Test) FailInside(text string, out *FailInsideReply) error {
	if text != "" {
		out.Err = plugin.NewBasicError(errors.New(text))
	}
	return nil
}

// Panic ends the process, in Go.
func (t *Test) Panic(text string, _ *types.Nothing) error { panic(text) }

// Exit ends the process.
func (t *Test) Exit(status int, _ *types.Nothing) error {
	os.Exit(status)
	return nil
}

// ---- Time ----

// Block returns the key after Release has been called with it.
func (t *Test) Block(key string, out *string) error {
	t.mu.Lock()
	gate := t.gate(key)
	t.mu.Unlock()
	<-gate
	return echo(key, out)
}

// Release lets calls of Block with this key return.
func (t *Test) Release(key string, _ *types.Nothing) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.gate(key))
	delete(t.blocked, key)
	return nil
}

// Blocked returns how many keys calls wait for.
func (t *Test) Blocked(_ types.Nothing, out *int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return echo(len(t.blocked), out)
}

func (t *Test) gate(key string) chan struct{} {
	if t.blocked[key] == nil {
		t.blocked[key] = make(chan struct{})
	}
	return t.blocked[key]
}

// Sleep returns after so many milliseconds.
func (t *Test) Sleep(milliseconds int, out *int) error {
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	return echo(milliseconds, out)
}

// ---- Output ----

// Print writes to stdout and stderr, several times.
func (t *Test) Print(in PrintArgs, _ *types.Nothing) error {
	for range max(in.Repeat, 1) {
		// The streams are looked up each time: go-plugin replaces them.
		if _, err := os.Stdout.Write(in.Stdout); err != nil {
			return err
		}
		if _, err := os.Stderr.Write(in.Stderr); err != nil {
			return err
		}
	}
	return nil
}

// Log writes to the plugin's log.
func (t *Test) Log(in LogArgs, _ *types.Nothing) error {
	var fields []any
	for key, value := range in.Fields {
		fields = append(fields, key, value)
	}
	t.logger.Log(hclog.LevelFromString(in.Level), in.Message, fields...)
	return nil
}

// ---- Objects lent by the other side, and to it ----

// CallBack calls Echo of the object that the other side serves under the id.
func (t *Test) CallBack(in CallBackArgs, out *[]byte) error {
	return t.callDialled(in.ID, "Echo", in.Payload, out)
}

// Serve serves another Test, once, and returns the id.
func (t *Test) Serve(_ types.Nothing, out *uint32) error {
	id := t.broker.NextId()
	go t.broker.AcceptAndServe(id, NewTest(t.side, t.broker, t.logger))
	return echo(id, out)
}

// Descend calls the same method of the object that the other side serves under the id, with an
// object of its own to be called, until the depth is 0. It returns the sides that were called.
func (t *Test) Descend(in DescendArgs, out *string) error {
	if in.Depth == 0 {
		return echo(t.side, out)
	}
	id := t.broker.NextId()
	go t.broker.AcceptAndServe(id, t)
	var below string
	err := t.callDialled(in.ID, "Descend", DescendArgs{ID: id, Depth: in.Depth - 1}, &below)
	*out = t.side + " " + below
	return err
}

func (t *Test) callDialled(id uint32, method string, in, out any) error {
	return CallDialled(t.broker, id, method, in, out)
}

// CallDialled makes one call of the object that the other side serves under the id.
func CallDialled(broker *plugin.MuxBroker, id uint32, method string, in, out any) error {
	conn, err := broker.Dial(id)
	if err != nil {
		return fmt.Errorf("dial %d: %w", id, err)
	}
	client := rpc.NewClient(conn)
	err = client.Call("Plugin."+method, in, out)
	return errors.Join(err, client.Close())
}

// ---- Readers and writers lent by the other side, and to it ----

// ReadFrom reads all that the other side lends under the id.
func (t *Test) ReadFrom(id uint32, out *Digest) error {
	conn, err := t.broker.Dial(id)
	if err != nil {
		return err
	}
	defer conn.Close()
	*out, err = DigestOf(conn)
	return err
}

// WriteTo writes so much of Pattern to what the other side lends under the id.
func (t *Test) WriteTo(in WriteArgs, _ *types.Nothing) error {
	conn, err := t.broker.Dial(in.ID)
	if err != nil {
		return err
	}
	return WritePattern(conn, in.Size)
}

// LendReader lends so much of Pattern to read, and returns the id.
func (t *Test) LendReader(size int, out *uint32) error {
	id := t.broker.NextId()
	go func() {
		if conn, err := t.broker.Accept(id); err != nil {
			t.logger.Error("lending a reader", "error", err)
		} else if err := WritePattern(conn, size); err != nil {
			t.logger.Error("writing what was lent", "error", err)
		}
	}()
	return echo(id, out)
}

// LendWriter lends what can be written to, and returns the id. See Written.
func (t *Test) LendWriter(_ types.Nothing, out *uint32) error {
	id := t.broker.NextId()
	digests := make(chan Digest, 1)
	t.mu.Lock()
	t.written[id] = digests
	t.mu.Unlock()
	go func() {
		conn, err := t.broker.Accept(id)
		var digest Digest
		if err == nil {
			digest, err = DigestOf(conn)
			conn.Close()
		}
		if err != nil {
			t.logger.Error("lending a writer", "error", err)
		}
		digests <- digest
	}()
	return echo(id, out)
}

// Written returns what was written to what LendWriter has lent, when the writer has been closed.
func (t *Test) Written(id uint32, out *Digest) error {
	t.mu.Lock()
	digests := t.written[id]
	delete(t.written, id)
	t.mu.Unlock()
	if digests == nil {
		return fmt.Errorf("no writer %d has been lent", id)
	}
	return echo(<-digests, out)
}

// DigestOf reads to the end.
func DigestOf(reader io.Reader) (Digest, error) {
	hash := sha256.New()
	size, err := io.Copy(hash, reader)
	return Digest{Size: int(size), SHA256: hex.EncodeToString(hash.Sum(nil))}, err
}

// DigestOfPattern is what DigestOf returns of so much of Pattern.
func DigestOfPattern(size int) Digest {
	digest, _ := DigestOf(bytes.NewReader(Pattern(size)))
	return digest
}

// WritePattern writes so much of Pattern, and closes the connection.
func WritePattern(conn net.Conn, size int) error {
	_, err := conn.Write(Pattern(size))
	return errors.Join(err, conn.Close())
}

// Pattern is so many bytes, which count up to 250 again and again.
func Pattern(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i % 251)
	}
	return data
}
