// Package peer holds what the Go plugin and the Go hosts have in common: the
// handshake, the plugin set and the services.
package peer

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/peers/kvpb"
	"pygo-plugin.example/peers/probepb"
)

// Handshake is what hosts and plugins of the test suite agree on.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "PYGO_TEST_COOKIE",
	MagicCookieValue: "pygo",
}

// Plugins returns the plugin set of one application protocol version. A host
// may pass a nil logger, since only the serving side logs.
func Plugins(version int, logger hclog.Logger) plugin.PluginSet {
	return plugin.PluginSet{
		"kv":    &kvPlugin{},
		"probe": &probePlugin{version: version, logger: logger},
		"test":  &brokerPlugin{},
	}
}

// Versions returns the plugin sets of several application protocol versions.
func Versions(versions []int, logger hclog.Logger) map[int]plugin.PluginSet {
	sets := make(map[int]plugin.PluginSet, len(versions))
	for _, version := range versions {
		sets[version] = Plugins(version, logger)
	}
	return sets
}

// kvPlugin serves KV, and gives hosts a kvpb.KVClient.
type kvPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (p *kvPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	kvpb.RegisterKVServer(server, newKV())
	return nil
}

func (p *kvPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return kvpb.NewKVClient(conn), nil
}

// probePlugin serves Probe, and gives hosts a *Probe.
type probePlugin struct {
	plugin.NetRPCUnsupportedPlugin
	version int
	logger  hclog.Logger
}

func (p *probePlugin) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	probepb.RegisterProbeServer(server, &probe{version: p.version, logger: p.logger, broker: broker})
	return nil
}

func (p *probePlugin) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &Probe{probepb.NewProbeClient(conn), broker}, nil
}

// Probe is what hosts dispense: the client, and the broker for calls back.
type Probe struct {
	probepb.ProbeClient
	broker *plugin.GRPCBroker
}

// CallBackOnce serves a Probe under a new id while the plugin dials it and calls
// its Echo.
func (p *Probe) CallBackOnce(ctx context.Context, payload []byte) error {
	id := p.broker.NextId()
	servers := make(chan *grpc.Server, 1)
	go p.broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
		server := grpc.NewServer(options...)
		probepb.RegisterProbeServer(server, &probe{})
		servers <- server
		return server
	})
	_, err := p.CallBack(ctx, &probepb.CallBackRequest{ServiceId: id, Payload: payload})
	(<-servers).Stop()
	return err
}
