// Command plugin is the example's counter in Go, which calls the host back to add.
package main

import (
	"context"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/counter"
	"pygo-plugin.example/counter/counterpb"
)

type server struct {
	counterpb.UnimplementedCounterServer
	broker *plugin.GRPCBroker
	lock   sync.Mutex
	values map[string]int64
}

func (s *server) Get(_ context.Context, req *counterpb.GetRequest) (*counterpb.GetResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return &counterpb.GetResponse{Value: s.values[req.Key]}, nil
}

func (s *server) Put(ctx context.Context, req *counterpb.PutRequest) (*counterpb.PutResponse, error) {
	conn, err := s.broker.Dial(req.AddServer)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	s.lock.Lock()
	defer s.lock.Unlock()
	sum := &counterpb.SumRequest{A: s.values[req.Key], B: req.Value}
	reply, err := counterpb.NewAddHelperClient(conn).Sum(ctx, sum)
	if err != nil {
		return nil, err
	}
	s.values[req.Key] = reply.R
	return &counterpb.PutResponse{}, nil
}

type counterPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (counterPlugin) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	counterpb.RegisterCounterServer(s, &server{broker: broker, values: map[string]int64{}})
	return nil
}

func (counterPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return counterpb.NewCounterClient(conn), nil
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: counter.Handshake,
		Plugins:         plugin.PluginSet{"counter": counterPlugin{}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger: hclog.New(&hclog.LoggerOptions{
			Level: hclog.Warn, Output: os.Stderr, JSONFormat: true,
		}),
	})
}
