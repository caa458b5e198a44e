package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/kvpb"
	"pygo-plugin.example/peers/probepb"
)

// exercises are calls of every kind on one connection, in this order; see exercise() in
// broker_plugin.py, which makes the same ones.
var exercises = []struct {
	name string
	call func(context.Context, probepb.ProbeClient, grpc.ClientConnInterface) error
}{
	{"unary", exerciseUnary},
	{"large", exerciseLarge},
	{"count", exerciseCount},
	{"sum", exerciseSum},
	{"chat", exerciseChat},
	{"deadline", exerciseDeadline},
	{"cancel", exerciseCancel},
	{"services", exerciseServices},
}

// Exercise makes all of them. It returns their names, or what went wrong.
func Exercise(conn grpc.ClientConnInterface) (Bytes, error) {
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeout)
	defer cancel()
	stub := probepb.NewProbeClient(conn)
	var done []byte
	for _, one := range exercises {
		if err := one.call(ctx, stub, conn); err != nil {
			return nil, fmt.Errorf("%s: %w", one.name, err)
		}
		done = append(append(done, one.name...), ' ')
	}
	return bytes.TrimSpace(done), nil
}

func exerciseUnary(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	long := strings.Repeat("0123456789abcdef", 64<<10/16) // as much as metadata and details may have
	ctx = metadata.AppendToOutgoingContext(ctx, wantInitial+"first", long, wantTrailing+"last", long)
	var initial, trailing metadata.MD
	request := &probepb.EchoRequest{Payload: []byte("x")}
	reply, err := stub.Echo(ctx, request, grpc.Header(&initial), grpc.Trailer(&trailing))
	if err != nil {
		return err
	}
	if string(reply.Payload) != "x" || !slices.Equal(initial["first"], []string{long}) || !slices.Equal(trailing["last"], []string{long}) {
		return fmt.Errorf("%v came with %v and %v", reply, initial, trailing)
	}
	_, err = stub.Fail(ctx, &probepb.FailRequest{Code: int32(codes.DataLoss), Details: long})
	if status.Code(err) != codes.DataLoss || status.Convert(err).Message() != long {
		return fmt.Errorf("Fail ended with %v", err)
	}
	return nil
}

func exerciseLarge(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	reply, err := stub.Echo(ctx, &probepb.EchoRequest{Payload: payload})
	if err == nil && !bytes.Equal(reply.Payload, payload) {
		err = errors.New("another payload came back")
	}
	return err
}

func exerciseCount(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	stream, err := stub.Count(ctx, &probepb.CountRequest{N: 100, Size: 10_000})
	if err != nil {
		return err
	}
	for number := int32(0); ; number++ {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) && number == 100 {
			return nil
		}
		if err != nil {
			return err
		}
		if reply.Number != number || len(reply.Payload) != 10_000 {
			return fmt.Errorf("message %d is number %d", number, reply.Number)
		}
	}
}

func exerciseSum(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	stream, err := stub.Sum(ctx)
	if err != nil {
		return err
	}
	for value := range int64(100) {
		if err := stream.Send(&probepb.SumRequest{Value: value}); err != nil {
			return err
		}
	}
	reply, err := stream.CloseAndRecv()
	if err == nil && reply.Total != 4950 {
		err = fmt.Errorf("the sum is %d", reply.Total)
	}
	return err
}

func exerciseChat(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	stream, err := stub.Chat(ctx)
	if err != nil {
		return err
	}
	for number := range 100 {
		text := fmt.Appendf(nil, "message %d", number)
		if err := stream.Send(&probepb.ChatMessage{Payload: text}); err != nil {
			return err
		}
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if !bytes.Equal(reply.Payload, text) {
			return fmt.Errorf("%q was answered by %q", text, reply.Payload)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream's end is %v", err)
	}
	return nil
}

func exerciseDeadline(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err := stub.Hang(ctx, &probepb.HangRequest{})
	return expect(codes.DeadlineExceeded, err)
}

func exerciseCancel(ctx context.Context, stub probepb.ProbeClient, _ grpc.ClientConnInterface) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := stub.Count(ctx, &probepb.CountRequest{N: math.MaxInt32})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	return expect(codes.Canceled, err)
}

func exerciseServices(ctx context.Context, _ probepb.ProbeClient, conn grpc.ClientConnInterface) error {
	kv := kvpb.NewKVClient(conn)
	if _, err := kv.Put(ctx, &kvpb.PutRequest{Key: "k", Value: []byte("v")}); err != nil {
		return err
	}
	reply, err := kv.Get(ctx, &kvpb.GetRequest{Key: "k"})
	if err == nil && string(reply.Value) != "v" {
		err = fmt.Errorf("the value is %q", reply.Value)
	}
	if err == nil {
		_, err = Call(ctx, conn, TestService, "Echo", Bytes("x"))
	}
	return err
}

func expect(code codes.Code, err error) error {
	if status.Code(err) == code {
		return nil
	}
	return fmt.Errorf("%v, where %s was expected", err, code)
}
