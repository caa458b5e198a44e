package peer

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/peers/kvpb"
	"pygo-plugin.example/peers/probepb"
)

// TestService is what broker_plugin.py serves: calls that need the broker.
const TestService = "broker.Test"

// brokerTimeout is what any single step of such a call may take.
const brokerTimeout = 60 * time.Second

// brokerPlugin serves TestService, and gives hosts a *BrokerClient.
type brokerPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

// BrokerClient is the host's side: the broker, and the connection to call TestService on.
type BrokerClient struct {
	Broker *plugin.GRPCBroker
	conn   *grpc.ClientConn
}

// Call calls a method of the plugin's TestService.
func (c *BrokerClient) Call(method string, request Bytes) (Bytes, error) {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	return Call(ctx, c.conn, TestService, method, request)
}

func (brokerPlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &BrokerClient{broker, conn}, nil
}

func (brokerPlugin) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	b := &brokered{broker: broker, stops: make(map[uint32]func())}
	Register(server, TestService, map[string]Method{
		"Echo":      echo(""),
		"CallBack":  b.callBack,
		"Serve":     b.serve,
		"ServeAll":  b.serveAll,
		"Stop":      b.stop,
		"Nest":      b.nest,
		"Hang":      b.hang,
		"Exercise":  b.exercise,
		"Resources": resources,
	})
	return nil
}

// brokered answers the calls of the host.
type brokered struct {
	broker *plugin.GRPCBroker
	lock   sync.Mutex
	stops  map[uint32]func() // What is served, by its id.
}

func echo(prefix string) Method {
	return func(_ context.Context, request Bytes) (Bytes, error) {
		return append(Bytes(prefix), request...), nil
	}
}

// callBack dials the id, and calls Echo there.
func (b *brokered) callBack(_ context.Context, request Bytes) (Bytes, error) {
	return CallDialled(b.broker, request, "Echo", request)
}

// hang dials the id, and calls Hang there.
func (b *brokered) hang(_ context.Context, request Bytes) (Bytes, error) {
	return CallDialled(b.broker, request, "Hang", nil)
}

// exercise dials the id, and makes calls of every kind there.
func (b *brokered) exercise(_ context.Context, request Bytes) (Bytes, error) {
	conn, err := Dial(b.broker, request)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return Exercise(conn)
}

// serve serves Echo until stop is called.
func (b *brokered) serve(context.Context, Bytes) (Bytes, error) {
	return b.keep(func(server *grpc.Server) {
		Register(server, TestService, map[string]Method{"Echo": echo("plugin: ")})
	}), nil
}

// serveAll serves Echo, KV and Probe until stop is called.
func (b *brokered) serveAll(context.Context, Bytes) (Bytes, error) {
	return b.keep(func(server *grpc.Server) { RegisterServed(server, "plugin: ") }), nil
}

// keep serves, and remembers how to stop that. It returns the id.
func (b *brokered) keep(register func(*grpc.Server)) Bytes {
	id, stop := Serve(b.broker, register)
	b.lock.Lock()
	defer b.lock.Unlock()
	b.stops[id] = stop
	return number(id)
}

func (b *brokered) stop(_ context.Context, request Bytes) (Bytes, error) {
	id, err := ParseID(request)
	if err != nil {
		return nil, err
	}
	b.lock.Lock()
	stop, ok := b.stops[id]
	delete(b.stops, id)
	b.lock.Unlock()
	if !ok {
		return nil, fmt.Errorf("nothing is served under %d", id)
	}
	stop()
	return nil, nil
}

// nest calls the host's Nest, and gives it an id to call Echo of.
func (b *brokered) nest(_ context.Context, request Bytes) (Bytes, error) {
	id, stop := Serve(b.broker, func(server *grpc.Server) {
		Register(server, TestService, map[string]Method{"Echo": echo("innermost: ")})
	})
	defer stop()
	return CallDialled(b.broker, request, "Nest", number(id))
}

func resources(context.Context, Bytes) (Bytes, error) {
	count, err := Descriptors()
	return fmt.Append(nil, count), err
}

// Descriptors counts this process's. Goroutines are no measure: go-plugin keeps some of each
// connection for five seconds.
func Descriptors() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	return len(entries), err
}

// RegisterServed adds what either side serves under brokered ids: three services.
func RegisterServed(server *grpc.Server, prefix string) {
	Register(server, TestService, map[string]Method{"Echo": echo(prefix)})
	kvpb.RegisterKVServer(server, newKV())
	probepb.RegisterProbeServer(server, &probe{})
}

// Serve serves under a new id until the function that it returns is called. It waits until the id is
// accepted: go-plugin's muxer drops a knock that arrives before that.
func Serve(broker *plugin.GRPCBroker, register func(*grpc.Server)) (uint32, func()) {
	id := broker.NextId()
	servers := make(chan *grpc.Server, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
			server := NewServer(options)
			register(server)
			servers <- server
			return server
		})
	}()
	select {
	case server := <-servers:
		return id, server.Stop
	case <-done: // It never came to that, as go-plugin's log says.
		return id, func() {}
	}
}

// NewServer is go-plugin's default server without gRPC's limit of 4 MiB.
func NewServer(options []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(math.MaxInt32))...)
}

// Dial connects to what the other side serves under an id in digits.
func Dial(broker *plugin.GRPCBroker, id Bytes) (*grpc.ClientConn, error) {
	value, err := ParseID(id)
	if err != nil {
		return nil, err
	}
	return broker.Dial(value)
}

// CallDialled calls one method of the TestService that the other side serves under an id.
func CallDialled(broker *plugin.GRPCBroker, id Bytes, method string, request Bytes) (Bytes, error) {
	conn, err := Dial(broker, id)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	return Call(ctx, conn, TestService, method, request)
}

// ParseID reads an id in digits.
func ParseID(text Bytes) (uint32, error) {
	id, err := strconv.ParseUint(string(text), 10, 32)
	return uint32(id), err
}

func number(id uint32) Bytes {
	return strconv.AppendUint(nil, uint64(id), 10)
}
