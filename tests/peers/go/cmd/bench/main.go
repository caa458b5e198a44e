// Command bench measures a Go host, as the mark for ours to be compared with.
//
//	bench -calls 20000 -size 100 -threads 1 -cmd ./plugin
//	bench -launch 20 -cmd ./plugin
//	bench -loglines 100000 -cmd ./plugin
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
	"pygo-plugin.example/peers/probepb"
)

// bench holds what all measurements have in common.
type bench struct {
	cmd      []string
	autoMTLS bool
}

func main() {
	cmd := flag.String("cmd", "", "plugin to launch, a `path`")
	calls := flag.Int("calls", 0, "measure `N` calls of Echo in all")
	size := flag.Int("size", 100, "payload of a call in `bytes`")
	threads := flag.Int("threads", 1, "callers at the same time, a `number`")
	launches := flag.Int("launch", 0, "launch and kill the plugin `K` times")
	logLines := flag.Int("loglines", 0, "mirror `N` log lines from the plugin")
	autoMTLS := flag.Bool("auto-mtls", false, "use AutoMTLS")
	flag.Parse()

	b := &bench{cmd: append([]string{*cmd}, flag.Args()...), autoMTLS: *autoMTLS}
	if err := b.run(*cmd, *calls, *size, *threads, *launches, *logLines); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(cmd string, calls, size, threads, launches, logLines int) error {
	if cmd == "" || threads < 1 {
		return errors.New("-cmd is needed, and at least one thread")
	}
	results := make(map[string]any)
	var err error
	if calls > 0 {
		if results["calls"], err = b.calls(calls, size, threads); err != nil {
			return err
		}
	}
	if launches > 0 {
		if results["launch"], err = b.launches(launches); err != nil {
			return err
		}
	}
	if logLines > 0 {
		if results["log"], err = b.logLines(logLines); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// newClient makes a client that formats its log and writes it to the output.
func (b *bench) newClient(log io.Writer) *plugin.Client {
	return plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  peer.Handshake,
		Plugins:          peer.Plugins(int(peer.Handshake.ProtocolVersion), nil),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         b.autoMTLS,
		Cmd:              exec.Command(b.cmd[0], b.cmd[1:]...),
		Logger:           hclog.New(&hclog.LoggerOptions{Name: "bench", Level: hclog.Trace, Output: log}),
	})
}

// probe starts a client's plugin if need be.
func probe(client *plugin.Client) (probepb.ProbeClient, error) {
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense("probe")
	if err != nil {
		return nil, err
	}
	return raw.(probepb.ProbeClient), nil
}
