// Command bench measures a Go host, as the mark for ours to be compared with.
//
//	bench -calls 20000 -size 100 -threads 1 -cmd ./plugin
//	bench -launch 20 -cmd ./plugin
//	bench -loglines 100000 -cmd ./plugin
//	bench -stream server -messages 100000 -size 100 -cmd ./plugin
//	bench -stdio 64 -cmd ./plugin
//	bench -calls 1000 -call-back -auto-mtls -multiplex -cmd ./plugin
//	bench -open 1000 -cmd ./plugin
//	bench -plugins 200 -cmd ./plugin
//	bench -netrpc -calls 20000 -cmd ./plugin -- -netrpc 1
//
// Arguments after the flags go to the plugin. The measurements asked for are
// printed as one JSON object.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/peer"
	"pygo-plugin.example/peers/internal/rpcpeer"
)

// bench holds what all measurements have in common.
type bench struct {
	cmd       []string
	autoMTLS  bool
	multiplex bool
	netRPC    bool
}

// wanted says what to measure; zero means not to.
type wanted struct {
	calls, size, threads int
	callBack, order      bool
	launches             int
	logLines             int
	output               int
	stream               string
	messages             int
	open                 int
	plugins              int
}

func main() {
	var want wanted
	cmd := flag.String("cmd", "", "plugin to launch, a `path`")
	flag.IntVar(&want.calls, "calls", 0, "measure `N` calls of Echo in all")
	flag.IntVar(&want.size, "size", 100, "payload of a call or a message in `bytes`")
	flag.IntVar(&want.threads, "threads", 1, "callers at the same time, a `number`")
	flag.BoolVar(&want.callBack, "call-back", false, "have each call dial the host and call it back")
	flag.BoolVar(&want.order, "order", false, "send a struct with 100 others in a slice there and back instead; with -netrpc")
	flag.IntVar(&want.launches, "launch", 0, "launch and kill the plugin `K` times")
	flag.IntVar(&want.logLines, "loglines", 0, "mirror `N` log lines from the plugin")
	flag.IntVar(&want.output, "stdio", 0, "have the plugin print `N` MiB")
	flag.StringVar(&want.stream, "stream", "server", "`kind` of stream: server, client or chat")
	flag.IntVar(&want.messages, "messages", 0, "measure `N` messages on one stream")
	flag.IntVar(&want.open, "open", 0, "keep `N` calls open, between lines of input")
	flag.IntVar(&want.plugins, "plugins", 0, "keep `N` plugins running, between lines of input")
	autoMTLS := flag.Bool("auto-mtls", false, "use AutoMTLS")
	multiplex := flag.Bool("multiplex", false, "everything over one connection")
	netRPC := flag.Bool("netrpc", false, "over net/rpc: -calls and -launch")
	flag.Parse()

	b := &bench{append([]string{*cmd}, flag.Args()...), *autoMTLS, *multiplex, *netRPC}
	if err := b.run(*cmd, want); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(cmd string, want wanted) error {
	if cmd == "" || want.threads < 1 {
		return errors.New("-cmd is needed, and at least one thread")
	}
	if want.order && !b.netRPC {
		return errors.New("-order needs -netrpc")
	}
	if want.open > 0 {
		return b.holdOpen(want.open)
	}
	if want.plugins > 0 {
		return b.holdPlugins(want.plugins)
	}
	results := make(map[string]any)
	var err error
	if want.calls > 0 {
		if results["calls"], err = b.calls(want); err != nil {
			return err
		}
	}
	if want.messages > 0 {
		if results["stream"], err = b.stream(want.stream, want.messages, want.size); err != nil {
			return err
		}
	}
	if want.launches > 0 {
		if results["launch"], err = b.launches(want.launches); err != nil {
			return err
		}
	}
	if want.logLines > 0 {
		if results["log"], err = b.logLines(want.logLines); err != nil {
			return err
		}
	}
	if want.output > 0 {
		if results["stdio"], err = b.output(want.output); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// newClient makes a client that formats its log and writes it to the output.
func (b *bench) newClient(log io.Writer) *plugin.Client {
	return b.newClientWith(log, io.Discard)
}

// newClientWith also takes what the plugin prints.
func (b *bench) newClientWith(log, stdout io.Writer) *plugin.Client {
	plugins, protocol := peer.Plugins(int(peer.Handshake.ProtocolVersion), nil), plugin.ProtocolGRPC
	if b.netRPC {
		plugins, protocol = rpcpeer.Plugins(nil), plugin.ProtocolNetRPC
	}
	return plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:     peer.Handshake,
		Plugins:             plugins,
		AllowedProtocols:    []plugin.Protocol{protocol},
		AutoMTLS:            b.autoMTLS,
		GRPCBrokerMultiplex: b.multiplex,
		SyncStdout:          stdout,
		Cmd:                 exec.Command(b.cmd[0], b.cmd[1:]...),
		Logger:              hclog.New(&hclog.LoggerOptions{Name: "bench", Level: hclog.Trace, Output: log}),
	})
}

// probe starts a client's plugin if need be.
func probe(client *plugin.Client) (*peer.Probe, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense("probe")
	if err != nil {
		return nil, err
	}
	return raw.(*peer.Probe), nil
}
