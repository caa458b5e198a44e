package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/peers/internal/rpcpeer"
	"pygo-plugin.example/peers/kvpb"
	"pygo-plugin.example/peers/probepb"
)

// session is the state of the host: its clients by name, and those whose name
// was given to another.
type session struct {
	clients  map[string]*client
	replaced []*client
}

// killTimeout bounds the end of the host, since go-plugin's Kill never returns
// while another process holds the plugin's pipes.
const killTimeout = 10 * time.Second

// client is one go-plugin client and all that it captured from its plugin.
type client struct {
	plugin *plugin.Client // nil for a server that is no plugin
	logs   logCapture
	stderr capture // The plugin's stderr as it is.
	// What the plugin printed after the handshake, as go-plugin brought it.
	syncStdout, syncStderr capture
	objects                map[string]*rpcpeer.Client // by the plugin's name
	calls                  map[string]*begun
}

func newClient(config *plugin.ClientConfig) *client {
	c := &client{objects: make(map[string]*rpcpeer.Client), calls: make(map[string]*begun)}
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name:   "host",
		Level:  hclog.Trace,
		Output: io.Discard,
	})
	logger.RegisterSink(&c.logs)
	config.Logger = logger
	config.Stderr = &c.stderr
	config.SyncStdout = &c.syncStdout
	config.SyncStderr = &c.syncStderr
	c.plugin = plugin.NewClient(config)
	return c
}

// onClient makes an operation of a function that works on one client and takes
// its own type of request.
func onClient[R any](f func(c *client, request R) (reply, error)) operation {
	return func(s *session, raw json.RawMessage) (reply, error) {
		var header struct {
			Client string `json:"client"`
		}
		var request R
		if err := json.Unmarshal(raw, &header); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &request); err != nil {
			return nil, err
		}
		c, ok := s.clients[header.Client]
		if !ok {
			return nil, fmt.Errorf("client %q was not started", header.Client)
		}
		return f(c, request)
	}
}

// killAll kills every client, all at the same time.
func (s *session) killAll() {
	var wg sync.WaitGroup
	for _, c := range append(slices.Collect(maps.Values(s.clients)), s.replaced...) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.end()
		}()
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(killTimeout):
	}
}

// add names a client. An earlier one of that name is killed in the background.
func (s *session) add(name string, c *client) {
	if old, ok := s.clients[name]; ok {
		s.replaced = append(s.replaced, old)
		go old.end()
	}
	s.clients[name] = c
}

// end kills the plugin, or hangs up where there is none.
func (c *client) end() {
	if c.plugin != nil {
		c.plugin.Kill()
		return
	}
	for _, object := range c.objects {
		object.Close()
	}
}

// protocol connects to the plugin if that has not been done.
func (c *client) protocol() (plugin.ClientProtocol, error) {
	return c.plugin.Client()
}

func (c *client) kv() (kvpb.KVClient, error) {
	return dispenseAs[kvpb.KVClient](c, "kv")
}

func (c *client) probe() (probepb.ProbeClient, error) {
	return dispenseAs[probepb.ProbeClient](c, "probe")
}

// conn returns the channel itself, for services that no plugin stands for.
func (c *client) conn() (*grpc.ClientConn, error) {
	protocol, err := c.protocol()
	if err != nil {
		return nil, err
	}
	client, ok := protocol.(*plugin.GRPCClient)
	if !ok {
		return nil, fmt.Errorf("the protocol is %s, not gRPC", c.plugin.Protocol())
	}
	return client.Conn, nil
}

func dispenseAs[T any](c *client, name string) (T, error) {
	var none T
	protocol, err := c.protocol()
	if err != nil {
		return none, err
	}
	raw, err := protocol.Dispense(name)
	if err != nil {
		return none, err
	}
	stub, ok := raw.(T)
	if !ok {
		return none, fmt.Errorf("plugin %q is a %T", name, raw)
	}
	return stub, nil
}
