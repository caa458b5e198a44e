// Command plugin is the example's plugin in Go: what plugin.py does.
package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"pygo-plugin.example/streaming"
	"pygo-plugin.example/streaming/shoutpb"
)

// buffer is what one message carries, instead of a line.
const buffer = 256 << 10

type server struct {
	shoutpb.UnimplementedShoutServer
	broker *plugin.GRPCBroker
}

func (s *server) Copy(_ context.Context, req *shoutpb.CopyRequest) (*shoutpb.CopyResponse, error) {
	source, err := streaming.Open(s.broker, req.Source)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	target, err := streaming.Open(s.broker, req.Target)
	if err != nil {
		return nil, err
	}
	lines, err := shout(bufio.NewReaderSize(source, buffer), bufio.NewWriterSize(target, buffer))
	if err = errors.Join(err, target.Close()); err != nil {
		return nil, err
	}
	return &shoutpb.CopyResponse{Lines: lines}, nil
}

func shout(source *bufio.Reader, target *bufio.Writer) (int64, error) {
	for lines := int64(0); ; lines++ {
		line, err := source.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return lines, err
		}
		if len(line) == 0 {
			return lines, target.Flush()
		}
		if _, err = target.Write(upper(line)); err != nil {
			return lines, err
		}
	}
}

// upper is Python's bytes.upper(): bytes.ToUpper() would replace what is no UTF-8.
func upper(line []byte) []byte {
	for i, c := range line {
		if 'a' <= c && c <= 'z' {
			line[i] = c - 'a' + 'A'
		}
	}
	return line
}

type shoutPlugin struct {
	plugin.NetRPCUnsupportedPlugin
}

func (shoutPlugin) GRPCServer(broker *plugin.GRPCBroker, s *grpc.Server) error {
	shoutpb.RegisterShoutServer(s, &server{broker: broker})
	return nil
}

func (shoutPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is the plugin")
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: streaming.Handshake,
		Plugins:         plugin.PluginSet{"shout": shoutPlugin{}},
		GRPCServer:      plugin.DefaultGRPCServer,
		Logger: hclog.New(&hclog.LoggerOptions{
			Level: hclog.Warn, Output: os.Stderr, JSONFormat: true,
		}),
	})
}
