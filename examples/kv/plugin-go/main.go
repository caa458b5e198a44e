// Command kv-go is the example's plugin in Go: a key-value store that keeps each
// key in a file of the working directory. It uses go-plugin as it comes.
package main

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/kv/kvpb"
)

// handshake has to be the same as in shared.py.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "KV_EXAMPLE_PLUGIN",
	MagicCookieValue: "5f0c1b7e-kv",
}

// store answers the calls of the host.
type store struct {
	kvpb.UnimplementedKVServer
	logger hclog.Logger
}

func (s *store) Get(_ context.Context, req *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	value, err := os.ReadFile(pathOf(req.Key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, status.Errorf(codes.NotFound, "there is no key %q", req.Key)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &kvpb.GetResponse{Value: value}, nil
}

func (s *store) Put(_ context.Context, req *kvpb.PutRequest) (*kvpb.PutResponse, error) {
	if err := os.WriteFile(pathOf(req.Key), req.Value, 0o644); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	// Arrives at the host as a record of its own logging.
	s.logger.Info("stored a value", "key", req.Key, "bytes", len(req.Value))
	return &kvpb.PutResponse{}, nil
}

// pathOf escapes the key, so that one such as "../../etc/passwd" stays a file of
// this directory.
func pathOf(key string) string {
	return "kv_" + url.PathEscape(key)
}

// kvPlugin registers the service with go-plugin's server.
type kvPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	logger hclog.Logger
}

func (p *kvPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	kvpb.RegisterKVServer(server, &store{logger: p.logger})
	return nil
}

func (p *kvPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return kvpb.NewKVClient(conn), nil
}

func main() {
	logger := hclog.New(&hclog.LoggerOptions{
		Name:       "kv",
		Level:      hclog.Trace,
		Output:     os.Stderr,
		JSONFormat: true, // which hosts take apart again
	})
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{"kv": &kvPlugin{logger: logger}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger:          logger,
	})
}
