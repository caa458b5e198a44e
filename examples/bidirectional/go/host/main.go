// Command host is the example's host in Go: what host.py does.
//
//	host [-auto-mtls] [-multiplex] [-rounds N] PLUGIN [ARGUMENT...]
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/counter"
	"pygo-plugin.example/counter/counterpb"
)

type addHelper struct {
	counterpb.UnimplementedAddHelperServer
}

func (addHelper) Sum(_ context.Context, req *counterpb.SumRequest) (*counterpb.SumResponse, error) {
	fmt.Printf("the plugin asks for %d + %d\n", req.A, req.B)
	return &counterpb.SumResponse{R: req.A + req.B}, nil
}

// client is what Dispense gives.
type client struct {
	broker *plugin.GRPCBroker
	stub   counterpb.CounterClient
}

func (c *client) put(key string, value int64) error {
	id := c.broker.NextId()
	servers := make(chan *grpc.Server, 1)
	go c.broker.AcceptAndServe(id, func(opts []grpc.ServerOption) *grpc.Server {
		s := grpc.NewServer(opts...)
		counterpb.RegisterAddHelperServer(s, addHelper{})
		servers <- s
		return s
	})
	req := &counterpb.PutRequest{AddServer: id, Key: key, Value: value}
	_, err := c.stub.Put(context.Background(), req)
	(<-servers).Stop()
	return err
}

type counterPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (counterPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return nil
}

func (counterPlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &client{broker, counterpb.NewCounterClient(conn)}, nil
}

func main() {
	log.SetFlags(0)
	autoMTLS := flag.Bool("auto-mtls", false, "secure every connection")
	multiplex := flag.Bool("multiplex", false, "everything over one socket")
	rounds := flag.Int("rounds", 1, "how often to add 3 and 4")
	flag.Parse()
	host := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:     counter.Handshake,
		Plugins:             plugin.PluginSet{"counter": counterPlugin{}},
		Cmd:                 exec.Command(flag.Arg(0), flag.Args()[1:]...),
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:            *autoMTLS,
		GRPCBrokerMultiplex: *multiplex,
		Logger:              hclog.NewNullLogger(),
	})
	defer host.Kill()
	if err := use(host, *rounds); err != nil {
		host.Kill()
		log.Fatal(err)
	}
}

func use(host *plugin.Client, rounds int) error {
	protocol, err := host.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("counter")
	if err != nil {
		return err
	}
	c := raw.(*client)
	for range rounds {
		for _, value := range []int64{3, 4} {
			if err := c.put("apples", value); err != nil {
				return err
			}
		}
	}
	reply, err := c.stub.Get(context.Background(), &counterpb.GetRequest{Key: "apples"})
	if err == nil {
		fmt.Printf("apples = %d\n", reply.Value)
	}
	return err
}
