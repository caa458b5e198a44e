// Package peer holds what the Go plugin and the Go hosts have in common: the
// handshake, the plugin set and the two services.
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

// probePlugin serves Probe, and gives hosts a probepb.ProbeClient.
type probePlugin struct {
	plugin.NetRPCUnsupportedPlugin
	version int
	logger  hclog.Logger
}

func (p *probePlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	probepb.RegisterProbeServer(server, &probe{version: p.version, logger: p.logger})
	return nil
}

func (p *probePlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return probepb.NewProbeClient(conn), nil
}
