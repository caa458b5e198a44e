package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// exitAfterLine exits before a host can have connected.
func exitAfterLine(*options) error {
	_, err := startServer(printAtOnce)
	return err
}

// exitOnConnect is gone before anything has been said.
func exitOnConnect(*options) error {
	s, err := startServer(printAtOnce)
	if err != nil {
		return err
	}
	<-s.listener.connected
	return nil
}

// serveOnly does nothing wrong.
func serveOnly(*options) error {
	s, err := startServer(printAtOnce)
	if err != nil {
		return err
	}
	<-s.stopped
	return nil
}

// symlink serves, and names a symbolic link to its socket.
func symlink(*options) error {
	s, err := startServer(func(line string) error {
		var version int
		var path string
		fields := bytes.Split([]byte(line), []byte("|"))
		if _, err := fmt.Sscan(string(fields[1]), &version); err != nil {
			return err
		}
		path = string(fields[3])
		link := filepath.Join(filepath.Dir(path), "link")
		if err := os.Symlink(path, link); err != nil {
			return err
		}
		return printAtOnce(fmt.Sprintf("1|%d|unix|%s|grpc\n", version, link))
	})
	if err != nil {
		return err
	}
	<-s.stopped
	return nil
}

// endlessLog writes one line of -mib MiB to stderr, before or after a handshake.
func endlessLog(o *options) error {
	var s *server
	if o.serve {
		var err error
		if s, err = startServer(printAtOnce); err != nil {
			return err
		}
	}
	block := bytes.Repeat([]byte{'x'}, 1<<20)
	for range o.mebibyte {
		if _, err := os.Stderr.Write(block); err != nil {
			return err
		}
	}
	if s != nil {
		<-s.stopped
	}
	return nil
}

// stdioService describes plugin.GRPCStdio.
var stdioService = grpc.ServiceDesc{
	ServiceName: "plugin.GRPCStdio",
	HandlerType: (*stdio)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName:    "StreamStdio",
		ServerStreams: true,
		Handler:       func(impl any, stream grpc.ServerStream) error { return impl.(stdio).stream(stream) },
	}},
}

type stdio interface {
	stream(stream grpc.ServerStream) error
}

// flooder sends much output, with messages in between that are not output.
type flooder struct{ o *options }

func (f flooder) stream(stream grpc.ServerStream) error {
	block := bytes.Repeat([]byte("flood\n"), 10000)
	sent := 0
	for limit := f.o.mebibyte << 20; stream.Context().Err() == nil && sent < limit; sent += len(block) {
		for channel, data := range map[uint64][]byte{0: []byte("x"), 1: block, 2: nil, 9: block} {
			if err := stream.SendMsg(stdioData(channel, data)); err != nil {
				return err
			}
		}
		if err := stream.SendMsg(raw([]byte{0xff, 0xff})); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// stdioData is a message of that type, which is internal to go-plugin.
func stdioData(channel uint64, data []byte) *emptypb.Empty {
	bytes := protowire.AppendTag(nil, 1, protowire.VarintType)
	bytes = protowire.AppendVarint(bytes, channel)
	bytes = protowire.AppendTag(bytes, 2, protowire.BytesType)
	return raw(protowire.AppendBytes(bytes, data))
}

// raw is a message of these bytes, whatever they are.
func raw(data []byte) *emptypb.Empty {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(data)
	return m
}

// floodStdio serves a stream with a flood of output and rubbish.
func floodStdio(o *options) error {
	s, err := startServerWith(printAtOnce, func(_ context.Context, s *server) error {
		go func() {
			s.grpc.Stop() // A graceful stop would wait for the stream.
			close(s.stopped)
		}()
		return nil
	}, func(s *grpc.Server) { s.RegisterService(&stdioService, flooder{o}) })
	if err != nil {
		return err
	}
	<-s.stopped
	return nil
}
