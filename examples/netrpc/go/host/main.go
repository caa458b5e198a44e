// Command host is the example's host in Go: what host.py does.
//
//	host [-auto-mtls] FILE PLUGIN [ARGUMENT...]
package main

import (
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/words"
)

func main() {
	log.SetFlags(0)
	autoMTLS := flag.Bool("auto-mtls", false, "secure the connection")
	flag.Parse()
	host := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  words.Handshake,
		Plugins:          plugin.PluginSet{"words": &words.Plugin{}},
		Cmd:              exec.Command(flag.Arg(1), flag.Args()[2:]...),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC},
		AutoMTLS:         *autoMTLS,
		Logger:           hclog.NewNullLogger(),
	})
	defer host.Kill()
	if err := use(host, flag.Arg(0)); err != nil {
		host.Kill()
		log.Fatal(err)
	}
}

func use(host *plugin.Client, path string) error {
	protocol, err := host.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("words")
	if err != nil {
		return err
	}
	counter := raw.(words.Counter)
	greeting, err := counter.Greet("host")
	if err != nil {
		return err
	}
	fmt.Println(greeting)
	text, err := os.Open(path)
	if err != nil {
		return err
	}
	defer text.Close()
	counts, err := counter.Count(text, 1000, func(lines int) {
		fmt.Printf("%d lines so far\n", lines)
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d lines, %d words, the longest is %q\n", counts.Lines, counts.Words, counts.Longest)
	for _, length := range slices.Sorted(maps.Keys(counts.ByLength)) {
		fmt.Printf("%5d of %d bytes\n", counts.ByLength[length], length)
	}
	return nil
}
