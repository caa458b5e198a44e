package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// server is the least that a host takes for a plugin: health and Shutdown.
type server struct {
	grpc       *grpc.Server
	onShutdown func(ctx context.Context, s *server) error
	listener   *trackingListener
	stopped    chan struct{} // Closed when Shutdown has ended the server.
}

// controller is what the description of the service asks the server to be.
type controller interface {
	shutdown(ctx context.Context) error
}

func (s *server) shutdown(ctx context.Context) error {
	return s.onShutdown(ctx, s)
}

// controllerService describes plugin.GRPCController. Its Empty is the same on
// the wire as the well-known one.
var controllerService = grpc.ServiceDesc{
	ServiceName: "plugin.GRPCController",
	HandlerType: (*controller)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Shutdown",
		Handler: func(impl any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			return &emptypb.Empty{}, impl.(controller).shutdown(ctx)
		},
	}},
}

// printAtOnce is the way a handshake line is normally printed.
func printAtOnce(line string) error {
	_, err := os.Stdout.WriteString(line)
	return err
}

// startServer serves on a unix socket with an orderly Shutdown, and prints the
// handshake line.
func startServer(emit func(line string) error) (*server, error) {
	return startServerWith(emit, func(_ context.Context, s *server) error {
		go s.stop()
		return nil
	})
}

func startServerWith(emit func(line string) error, onShutdown func(context.Context, *server) error, register ...func(*grpc.Server)) (*server, error) {
	dir, err := os.MkdirTemp("", "plugin-bad")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "plugin")
	inner, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	s := &server{
		grpc:       grpc.NewServer(),
		onShutdown: onShutdown,
		listener:   newTrackingListener(inner),
		stopped:    make(chan struct{}),
	}
	s.grpc.RegisterService(&controllerService, s)
	for _, more := range register {
		more(s.grpc)
	}
	checks := health.NewServer()
	checks.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(s.grpc, checks)
	go func() {
		if err := s.grpc.Serve(s.listener); err != nil {
			fmt.Fprintln(os.Stderr, "bad:", err)
		}
	}()
	// The host connects before it says anything else, and the socket is of no
	// further use then. Removing it early keeps the modes that are killed tidy.
	go func() {
		<-s.listener.connected
		os.RemoveAll(dir)
	}()
	return s, emit(fmt.Sprintf("1|1|unix|%s|grpc\n", path))
}

func (s *server) stop() {
	s.grpc.GracefulStop()
	close(s.stopped)
}

func slowLine(o *options) error {
	s, err := startServer(func(line string) error {
		for i := range len(line) {
			if err := printAtOnce(line[i : i+1]); err != nil {
				return err
			}
			time.Sleep(o.interval)
		}
		return nil
	})
	if err != nil {
		return err
	}
	<-s.stopped
	return nil
}

// wrongCore does not serve, since no host should come so far as to connect.
func wrongCore(*options) error {
	return printAndHold([]byte("2|1|unix|/nowhere/pygo|grpc\n"))
}

func closeStdio(*options) error {
	s, err := startServer(printAtOnce)
	if err != nil {
		return err
	}
	if err := os.Stdout.Close(); err != nil {
		return err
	}
	if err := os.Stderr.Close(); err != nil {
		return err
	}
	<-s.stopped
	return nil
}

func ignoreShutdown(*options) error {
	return serveStubbornly(func(context.Context, *server) error { return nil })
}

func hangShutdown(*options) error {
	return serveStubbornly(func(ctx context.Context, _ *server) error {
		hold()
		return ctx.Err()
	})
}

// serveStubbornly serves until it is killed.
func serveStubbornly(onShutdown func(context.Context, *server) error) error {
	signal.Ignore(syscall.SIGTERM)
	if _, err := startServerWith(printAtOnce, onShutdown); err != nil {
		return err
	}
	hold()
	return nil
}

func dropOnShutdown(o *options) error {
	_, err := startServerWith(printAtOnce, func(_ context.Context, s *server) error {
		s.listener.dropConnections()
		os.Exit(o.status)
		return nil
	})
	if err != nil {
		return err
	}
	hold()
	return nil
}

func dropAndSurvive(*options) error {
	return serveStubbornly(func(_ context.Context, s *server) error {
		s.listener.dropConnections()
		return nil
	})
}
