// Command host is the example's host in Go: what host.py does.
//
//	host [-auto-mtls] [-multiplex] SOURCE TARGET PLUGIN [ARGUMENT...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/streaming"
	"pygo-plugin.example/streaming/shoutpb"
)

// client is what Dispense gives.
type client struct {
	broker *plugin.GRPCBroker
	stub   shoutpb.ShoutClient
}

// copyFile lends the plugin both files.
func (c *client) copyFile(source, target string) (int64, error) {
	reader, err := os.Open(source)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	writer, err := os.Create(target)
	if err != nil {
		return 0, err
	}
	sourceID, stopSource := streaming.Serve(c.broker, reader, nil)
	defer stopSource()
	targetID, stopTarget := streaming.Serve(c.broker, nil, writer)
	defer stopTarget()
	reply, err := c.stub.Copy(context.Background(), &shoutpb.CopyRequest{Source: sourceID, Target: targetID})
	return reply.GetLines(), errors.Join(err, writer.Close())
}

type shoutPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (shoutPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return nil
}

func (shoutPlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &client{broker, shoutpb.NewShoutClient(conn)}, nil
}

func main() {
	log.SetFlags(0)
	autoMTLS := flag.Bool("auto-mtls", false, "secure every connection")
	multiplex := flag.Bool("multiplex", false, "everything over one socket")
	flag.Parse()
	if flag.NArg() < 3 {
		log.Fatal("usage: host [-auto-mtls] [-multiplex] SOURCE TARGET PLUGIN [ARGUMENT...]")
	}
	host := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:     streaming.Handshake,
		Plugins:             plugin.PluginSet{"shout": shoutPlugin{}},
		Cmd:                 exec.Command(flag.Arg(2), flag.Args()[3:]...),
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:            *autoMTLS,
		GRPCBrokerMultiplex: *multiplex,
		Logger:              hclog.NewNullLogger(),
	})
	defer host.Kill()
	if err := use(host, flag.Arg(0), flag.Arg(1)); err != nil {
		host.Kill()
		log.Fatal(err)
	}
}

func use(host *plugin.Client, source, target string) error {
	protocol, err := host.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("shout")
	if err != nil {
		return err
	}
	lines, err := raw.(*client).copyFile(source, target)
	if err == nil {
		fmt.Printf("copied %d lines\n", lines)
	}
	return err
}
