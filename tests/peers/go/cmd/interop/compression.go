package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// The sizes of the standard's unary cases.
const (
	requestSize  = 271828
	responseSize = 314159
)

// wire is what went over the wire for one call: whether the last message in
// each direction was compressed.
type wire struct {
	in, out atomic.Bool
}

type wireKey struct{}

func wireOf(ctx context.Context) *wire {
	seen, _ := ctx.Value(wireKey{}).(*wire)
	return seen
}

// observer fills in the wire of each call. A message of zeros, as all payloads
// are here, never has the same length compressed and not.
type observer struct{}

func (observer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if wireOf(ctx) != nil {
		return ctx // a client that wants to look at it afterwards
	}
	return context.WithValue(ctx, wireKey{}, &wire{})
}

func (observer) HandleRPC(ctx context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.InPayload:
		wireOf(ctx).in.Store(event.CompressedLength != event.Length)
	case *stats.OutPayload:
		wireOf(ctx).out.Store(event.CompressedLength != event.Length)
	}
}

func (observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (observer) HandleConn(context.Context, stats.ConnStats) {}

// ---- The server ----------------------------------------------------------------------------------

// testServer is grpc's test service, which takes no notice of compression.
type testServer struct {
	testgrpc.TestServiceServer
}

func (s testServer) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if expected := in.GetExpectCompressed(); expected != nil && expected.GetValue() != wireOf(ctx).in.Load() {
		return nil, status.Errorf(codes.InvalidArgument, "compressed: expected %v, got %v",
			expected.GetValue(), wireOf(ctx).in.Load())
	}
	if wanted := in.GetResponseCompressed(); wanted != nil {
		name := "identity" // by itself a server answers as it was asked
		if wanted.GetValue() {
			name = gzip.Name
		}
		if err := grpc.SetSendCompressor(ctx, name); err != nil {
			return nil, err
		}
	}
	return s.TestServiceServer.UnaryCall(ctx, in)
}

// ---- The client ----------------------------------------------------------------------------------

// clientCompressedUnary sends compressed and plain requests. It leaves out the
// probe of the standard, which has the server notice that a message is not
// compressed: servers on gRPC's C core have no way to know.
func clientCompressedUnary(ctx context.Context, connection *grpc.ClientConn) {
	for _, compressed := range []bool{true, false} {
		var options []grpc.CallOption
		if compressed {
			options = append(options, grpc.UseCompressor(gzip.Name))
		}
		request := simpleRequest()
		request.ExpectCompressed = &testgrpc.BoolValue{Value: compressed}
		seen := unary(ctx, connection, request, options...)
		check(seen.out.Load() == compressed, "the request is compressed: %v", !compressed)
	}
}

// serverCompressedUnary asks for compressed and plain responses.
func serverCompressedUnary(ctx context.Context, connection *grpc.ClientConn) {
	for _, compressed := range []bool{true, false} {
		request := simpleRequest()
		request.ResponseCompressed = &testgrpc.BoolValue{Value: compressed}
		seen := unary(ctx, connection, request)
		check(seen.in.Load() == compressed, "the response is compressed: %v", !compressed)
	}
}

func simpleRequest() *testgrpc.SimpleRequest {
	return &testgrpc.SimpleRequest{
		ResponseSize: responseSize,
		Payload:      interop.ClientNewPayload(testgrpc.PayloadType_COMPRESSABLE, requestSize),
	}
}

func unary(
	ctx context.Context, connection *grpc.ClientConn, request *testgrpc.SimpleRequest, options ...grpc.CallOption,
) *wire {
	seen := &wire{}
	ctx = context.WithValue(ctx, wireKey{}, seen)
	response, err := testgrpc.NewTestServiceClient(connection).UnaryCall(ctx, request, options...)
	check(err == nil, "UnaryCall: %v", err)
	size := len(response.GetPayload().GetBody())
	check(size == responseSize, "a response of %d bytes instead of %d", size, responseSize)
	return seen
}

// check ends a case like grpc's own cases.
func check(ok bool, format string, arguments ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", arguments...)
		os.Exit(1)
	}
}
