// Command interop is grpc-go's side of gRPC's standard interop cases.
//
//	interop -serve
//	interop -target 127.0.0.1:1234 -case ping_pong
//
// With -serve it prints the address that it listens on, and serves until its
// stdin ends. Otherwise it runs one case against the target and exits with 1,
// and the reason on stderr, if it fails. -list prints the names of all cases.
//
// The cases and the test service are those of google.golang.org/grpc/interop,
// and compression.go has those that it lacks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// patience is the deadline of a case as a whole.
const patience = 60 * time.Second

type testCase func(ctx context.Context, connection *grpc.ClientConn)

// service makes a case of a function of grpc's own, which exits when it fails.
func service(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) testCase {
	return func(ctx context.Context, connection *grpc.ClientConn) {
		do(ctx, testgrpc.NewTestServiceClient(connection))
	}
}

var cases = map[string]testCase{
	"empty_unary":                 service(interop.DoEmptyUnaryCall),
	"large_unary":                 service(interop.DoLargeUnaryCall),
	"client_streaming":            service(interop.DoClientStreaming),
	"server_streaming":            service(interop.DoServerStreaming),
	"ping_pong":                   service(interop.DoPingPong),
	"empty_stream":                service(interop.DoEmptyStream),
	"cancel_after_begin":          service(interop.DoCancelAfterBegin),
	"cancel_after_first_response": service(interop.DoCancelAfterFirstResponse),
	"timeout_on_sleeping_server":  service(interop.DoTimeoutOnSleepingServer),
	"status_code_and_message":     service(interop.DoStatusCodeAndMessage),
	"special_status_message":      service(interop.DoSpecialStatusMessage),
	"custom_metadata":             service(interop.DoCustomMetadata),
	"unimplemented_method":        interop.DoUnimplementedMethod,
	"unimplemented_service": func(ctx context.Context, connection *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(connection))
	},
	"client_compressed_unary": clientCompressedUnary,
	"server_compressed_unary": serverCompressedUnary,
}

func main() {
	serving := flag.Bool("serve", false, "serve the test service")
	listing := flag.Bool("list", false, "print the names of the cases")
	target := flag.String("target", "", "server to call, a `host:port`")
	name := flag.String("case", "", "`name` of the case to run")
	flag.Parse()

	var err error
	switch {
	case *listing:
		list()
	case *serving:
		err = serve()
	default:
		err = run(*target, *name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func list() {
	var names []string
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Println(name)
	}
}

func run(target, name string) error {
	do, known := cases[name]
	if target == "" || !known {
		return errors.New("-target and -case are needed; -list prints the cases")
	}
	connection, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(observer{}))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	do(ctx, connection)
	return nil
}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.StatsHandler(observer{}))
	testgrpc.RegisterTestServiceServer(server, testServer{interop.NewTestServer()})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}
