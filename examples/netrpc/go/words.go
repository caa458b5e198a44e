// Package words is what the example's host and plugin in Go have in common.
package words

import (
	"errors"
	"io"
	"net/rpc"

	"github.com/hashicorp/go-plugin"
)

// Handshake has to be the same as in shared.py.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "WORDS_EXAMPLE_PLUGIN",
	MagicCookieValue: "5a0c1d9e-words",
}

// Counter is what the plugin is, and what hosts dispense.
type Counter interface {
	Greet(name string) (string, error)
	// Count reads to the end, and reports how many lines there have been every so often.
	Count(text io.Reader, every int, progress func(lines int)) (Counts, error)
}

// Counts is the result of Count.
type Counts struct {
	Lines, Words int
	Longest      string
	ByLength     map[int]int // how many words have so many bytes
}

// CountArgs are Count's arguments as they travel: a reader and an object of the
// host's are ids of its broker.
type CountArgs struct {
	Text, Progress uint32
	Every          int
}

// Plugin is the counter as a plugin. Hosts leave Impl out.
type Plugin struct {
	Impl Counter
}

// Server is called in the plugin.
func (p *Plugin) Server(broker *plugin.MuxBroker) (any, error) {
	return &server{p.Impl, broker}, nil
}

// Client is called in the host.
func (p *Plugin) Client(broker *plugin.MuxBroker, connection *rpc.Client) (any, error) {
	return &client{connection, broker}, nil
}

// ---- The host's side ----

// client is a Counter that is somewhere else.
type client struct {
	connection *rpc.Client
	broker     *plugin.MuxBroker
}

func (c *client) Greet(name string) (reply string, err error) {
	return reply, c.connection.Call("Plugin.Greet", name, &reply)
}

func (c *client) Count(text io.Reader, every int, progress func(int)) (counts Counts, err error) {
	args := CountArgs{Text: c.broker.NextId(), Progress: c.broker.NextId(), Every: every}
	sent := make(chan error, 1)
	go func() {
		connection, err := c.broker.Accept(args.Text)
		if err == nil {
			_, err = io.Copy(connection, text)
			err = errors.Join(err, connection.Close())
		}
		sent <- err
	}()
	go c.broker.AcceptAndServe(args.Progress, &Progress{progress})
	err = c.connection.Call("Plugin.Count", args, &counts)
	if err == nil {
		err = <-sent
	}
	return counts, err
}

// Progress is the object that the host lends.
type Progress struct {
	report func(lines int)
}

// Report is called by the plugin.
func (p *Progress) Report(lines int, _ *struct{}) error {
	p.report(lines)
	return nil
}

// ---- The plugin's side ----

// server takes the calls of the host.
type server struct {
	impl   Counter
	broker *plugin.MuxBroker
}

// Greet and Count are what net/rpc serves.
func (s *server) Greet(name string, reply *string) (err error) {
	*reply, err = s.impl.Greet(name)
	return err
}

func (s *server) Count(args CountArgs, counts *Counts) error {
	text, err := s.broker.Dial(args.Text)
	if err != nil {
		return err
	}
	defer text.Close()
	connection, err := s.broker.Dial(args.Progress)
	if err != nil {
		return err
	}
	progress := rpc.NewClient(connection)
	defer progress.Close()
	var failed error
	*counts, err = s.impl.Count(text, args.Every, func(lines int) {
		failed = errors.Join(failed, progress.Call("Plugin.Report", lines, &struct{}{}))
	})
	return errors.Join(err, failed)
}
