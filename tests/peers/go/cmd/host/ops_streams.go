package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/probepb"
)

// count reads a server's stream. "count" says how many messages came, and
// "in_order" whether they bore the numbers 0, 1, 2...
func count(c *client, request struct {
	callOptions
	N           int32  `json:"n"`
	Size        int32  `json:"size"`
	DelayMS     int32  `json:"delay_ms"`
	FailCode    int32  `json:"fail_code"`
	FailDetails string `json:"fail_details"`
	// Above zero: cancel after so many messages.
	CancelAfter int32 `json:"cancel_after"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	begin := time.Now()
	stream, err := stub.Count(call.ctx, &probepb.CountRequest{
		N:           request.N,
		Size:        request.Size,
		DelayMs:     request.DelayMS,
		FailCode:    request.FailCode,
		FailDetails: request.FailDetails,
	}, call.options()...)
	if err != nil {
		return call.finish(nil, err)
	}
	messages, size, inOrder := int32(0), 0, true
	for {
		var message *probepb.CountReply
		if message, err = stream.Recv(); err != nil {
			break
		}
		inOrder = inOrder && message.Number == messages
		messages++
		size += len(message.Payload)
		if messages == request.CancelAfter {
			call.cancel()
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return call.finish(reply{
		"count":       messages,
		"bytes":       size,
		"in_order":    inOrder,
		"duration_ms": milliseconds(begin),
	}, err)
}

func sum(c *client, request struct {
	callOptions
	Values []int64 `json:"values"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	stream, err := stub.Sum(call.ctx, call.options()...)
	if err != nil {
		return call.finish(nil, err)
	}
	for _, value := range request.Values {
		if err := stream.Send(&probepb.SumRequest{Value: value}); err != nil {
			break // The reason comes with CloseAndRecv.
		}
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return call.finish(nil, err)
	}
	return call.finish(reply{"total": response.Total, "count": response.Count}, nil)
}

// chat sends messages one by one and waits for the answer to each.
func chat(c *client, request struct {
	callOptions
	Messages []string `json:"messages"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	stream, err := stub.Chat(call.ctx, call.options()...)
	if err != nil {
		return call.finish(nil, err)
	}
	answers := []string{}
	for _, message := range request.Messages {
		if err := stream.Send(&probepb.ChatMessage{Payload: []byte(message)}); err != nil {
			break // The reason comes with Recv.
		}
		answer, err := stream.Recv()
		if err != nil {
			return call.finish(reply{"messages": answers}, err)
		}
		answers = append(answers, string(answer.Payload))
	}
	if err := stream.CloseSend(); err != nil {
		return call.finish(nil, err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return call.finish(reply{"messages": answers}, err)
	}
	return call.finish(reply{"messages": answers}, nil)
}

// hangCancel cancels a call that is under way, or lets its deadline pass if
// after_deadline_ms is set, and reports the code of that call and whether the
// plugin noticed.
func hangCancel(c *client, request struct {
	callOptions
	AfterDeadlineMS int `json:"after_deadline_ms"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	before, err := stub.Cancelled(call.ctx, &probepb.CancelledRequest{})
	if err != nil {
		return call.finish(nil, err)
	}

	hangCtx, cancel := context.WithCancel(call.ctx)
	defer cancel()
	if request.AfterDeadlineMS > 0 {
		hangCtx, cancel = context.WithTimeout(call.ctx, time.Duration(request.AfterDeadlineMS)*time.Millisecond)
		defer cancel()
	}
	ended := make(chan error, 1)
	go func() {
		_, err := stub.Hang(hangCtx, &probepb.HangRequest{}, call.options()...)
		ended <- err
	}()

	now := before
	poll := func(reached func() bool) bool {
		return waitUntil(10*time.Second, func() bool {
			now, err = stub.Cancelled(call.ctx, &probepb.CancelledRequest{})
			return err != nil || reached()
		}) && err == nil
	}
	if !poll(func() bool { return now.Started > before.Started }) {
		return nil, errors.Join(errors.New("the hanging call did not begin"), err)
	}
	if request.AfterDeadlineMS == 0 {
		cancel()
	}
	hangErr := <-ended
	noticed := poll(func() bool { return now.Cancelled > before.Cancelled })
	return reply{
		"hang_code": code.Code(status.Code(hangErr)).String(),
		"noticed":   noticed,
		"started":   now.GetStarted(),
		"cancelled": now.GetCancelled(),
	}, nil
}

// hangOn leaves a call under way.
func hangOn(c *client, request struct {
	callOptions
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	go func() {
		_, _ = stub.Hang(context.Background(), &probepb.HangRequest{})
	}()
	begun := waitUntil(10*time.Second, func() bool {
		now, err := stub.Cancelled(call.ctx, &probepb.CancelledRequest{})
		return err == nil && now.Started > 0
	})
	if !begun {
		return nil, errors.New("the hanging call did not begin")
	}
	return reply{}, nil
}

// hangMany has count calls hang at once while it goes on asking how many there are, then cancels them. It
// reports whether all of them were seen to start and to end, and their codes.
func hangMany(c *client, request struct {
	callOptions
	Count int `json:"count"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	hangCtx, cancel := context.WithCancel(call.ctx)
	defer cancel()
	ended := make(chan error, request.Count)
	for range request.Count {
		go func() {
			_, err := stub.Hang(hangCtx, &probepb.HangRequest{})
			ended <- err
		}()
	}
	now := &probepb.CancelledReply{}
	poll := func(reached func() bool) bool {
		return waitUntil(20*time.Second, func() bool {
			now, err = stub.Cancelled(call.ctx, &probepb.CancelledRequest{})
			return err != nil || reached()
		}) && err == nil
	}
	started := poll(func() bool { return int(now.Started) == request.Count })
	cancel()
	codes := map[string]int{}
	for range request.Count {
		codes[code.Code(status.Code(<-ended)).String()]++
	}
	noticed := poll(func() bool { return now.Cancelled == now.Started })
	return reply{"started": started, "noticed": noticed, "codes": codes}, nil
}
