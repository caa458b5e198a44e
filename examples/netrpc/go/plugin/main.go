// Command plugin is the example's counter of words in Go: what plugin.py does.
package main

import (
	"bufio"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/words"
)

type counter struct{}

func (counter) Greet(name string) (string, error) {
	return "hello, " + name, nil
}

func (counter) Count(text io.Reader, every int, progress func(lines int)) (words.Counts, error) {
	counts := words.Counts{ByLength: make(map[int]int)}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		counts.Lines++
		for _, word := range strings.Fields(lines.Text()) {
			counts.Words++
			counts.ByLength[len(word)]++
			if len(word) > len(counts.Longest) {
				counts.Longest = word
			}
		}
		if counts.Lines%every == 0 {
			progress(counts.Lines)
		}
	}
	return counts, lines.Err()
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: words.Handshake,
		Plugins:         plugin.PluginSet{"words": &words.Plugin{Impl: counter{}}},
		Logger: hclog.New(&hclog.LoggerOptions{
			Level: hclog.Warn, Output: os.Stderr, JSONFormat: true,
		}),
	})
}
