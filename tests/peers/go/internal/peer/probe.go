package peer

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/internal/die"
	"pygo-plugin.example/peers/probepb"
)

// probe implements the Probe service. See probe.proto for what each call does.
type probe struct {
	probepb.UnimplementedProbeServer
	version   int
	logger    hclog.Logger
	broker    *plugin.GRPCBroker // nil: none
	hung      atomic.Int32
	cancelled atomic.Int32
}

func (s *probe) Echo(ctx context.Context, req *probepb.EchoRequest) (*probepb.EchoReply, error) {
	remaining := int64(-1)
	if deadline, ok := ctx.Deadline(); ok {
		remaining = time.Until(deadline).Milliseconds()
	}
	received, err := answerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, req.DelayMs); err != nil {
		return nil, err
	}
	payload := req.Payload
	if req.ReplySize > 0 {
		payload = make([]byte, req.ReplySize)
	}
	return &probepb.EchoReply{
		Payload:         payload,
		Metadata:        received,
		Pid:             int32(os.Getpid()),
		TimeRemainingMs: remaining,
	}, nil
}

func (s *probe) Fail(ctx context.Context, req *probepb.FailRequest) (*probepb.FailReply, error) {
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	if req.Code != 0 {
		return nil, status.Error(codes.Code(req.Code), req.Details)
	}
	return &probepb.FailReply{}, nil
}

func (s *probe) Count(req *probepb.CountRequest, stream grpc.ServerStreamingServer[probepb.CountReply]) error {
	if _, err := answerMetadata(stream.Context()); err != nil {
		return err
	}
	payload := make([]byte, req.Size)
	for number := range req.N {
		if err := pause(stream.Context(), req.DelayMs); err != nil {
			return err
		}
		if err := stream.Send(&probepb.CountReply{Number: number, Payload: payload}); err != nil {
			return err
		}
	}
	if req.FailCode != 0 {
		return status.Error(codes.Code(req.FailCode), req.FailDetails)
	}
	return nil
}

func (s *probe) Sum(stream grpc.ClientStreamingServer[probepb.SumRequest, probepb.SumReply]) error {
	if _, err := answerMetadata(stream.Context()); err != nil {
		return err
	}
	var reply probepb.SumReply
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&reply)
		}
		if err != nil {
			return err
		}
		reply.Total += req.Value
		reply.Count++
	}
}

func (s *probe) Chat(stream grpc.BidiStreamingServer[probepb.ChatMessage, probepb.ChatMessage]) error {
	if _, err := answerMetadata(stream.Context()); err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

func (s *probe) Hang(ctx context.Context, _ *probepb.HangRequest) (*probepb.HangReply, error) {
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	s.hung.Add(1)
	<-ctx.Done()
	s.cancelled.Add(1)
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (s *probe) Cancelled(ctx context.Context, _ *probepb.CancelledRequest) (*probepb.CancelledReply, error) {
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	return &probepb.CancelledReply{Started: s.hung.Load(), Cancelled: s.cancelled.Load()}, nil
}

func (s *probe) Exit(_ context.Context, req *probepb.ExitRequest) (*probepb.ExitReply, error) {
	if req.Signal == 0 {
		os.Exit(int(req.Status))
	}
	if err := die.Of(syscall.Signal(req.Signal)); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return nil, status.Errorf(codes.InvalidArgument, "signal %d does not kill", req.Signal)
}

func (s *probe) CallBack(ctx context.Context, req *probepb.CallBackRequest) (*probepb.CallBackReply, error) {
	if s.broker == nil {
		return nil, status.Error(codes.Unimplemented, "there is no broker to dial with")
	}
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	conn, err := s.broker.Dial(req.ServiceId)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reply, err := probepb.NewProbeClient(conn).Echo(ctx, &probepb.EchoRequest{Payload: req.Payload})
	if err != nil {
		return nil, err
	}
	return &probepb.CallBackReply{Payload: reply.Payload}, nil
}

// pause waits, or returns the status of a call that ended meanwhile.
func pause(ctx context.Context, milliseconds int32) error {
	if milliseconds <= 0 {
		return nil
	}
	select {
	case <-time.After(time.Duration(milliseconds) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
