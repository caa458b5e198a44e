// Package rpcpeer is what hosts and plugins of the test suite say to each other over net/rpc.
package rpcpeer

import (
	"encoding/gob"
	"errors"
	"net/rpc"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/peer"
)

// BrokenText is the error of dispensing the plugin named "broken".
const BrokenText = "this plugin is broken by design"

// Plugins returns the plugin set. A host may pass a nil logger, since only the
// serving side logs.
func Plugins(logger hclog.Logger) plugin.PluginSet {
	return plugin.PluginSet{
		"types":  &served{func(*plugin.MuxBroker) (any, error) { return Types{}, nil }},
		"test":   &served{func(broker *plugin.MuxBroker) (any, error) { return NewTest("plugin", broker, logger), nil }},
		"broken": &served{func(*plugin.MuxBroker) (any, error) { return nil, errors.New(BrokenText) }},
	}
}

// Versions returns plugin sets for several application protocol versions, of which those named in
// netRPC speak net/rpc and the others gRPC.
func Versions(versions, netRPC []int, logger hclog.Logger) map[int]plugin.PluginSet {
	sets := peer.Versions(versions, logger)
	for _, version := range netRPC {
		sets[version] = Plugins(logger)
	}
	return sets
}

// served is a plugin whose hosts get a *Client.
type served struct {
	make func(*plugin.MuxBroker) (any, error)
}

func (p *served) Server(broker *plugin.MuxBroker) (any, error) {
	return p.make(broker)
}

func (p *served) Client(broker *plugin.MuxBroker, client *rpc.Client) (any, error) {
	return &Client{Client: client, Broker: broker}, nil
}

// Client is what hosts dispense: the connection to a plugin's object, and the broker.
type Client struct {
	*rpc.Client
	Broker *plugin.MuxBroker
}

func init() {
	gob.Register(&plugin.BasicError{})
}
