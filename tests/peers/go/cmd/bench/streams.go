package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pygo-plugin.example/peers/probepb"
)

// warmupMessages is how many messages go through a stream before the clock starts.
const warmupMessages = 200

type streamResult struct {
	Kind      string  `json:"kind"`
	Messages  int     `json:"messages"`
	Size      int     `json:"size"`
	Latency   summary `json:"latency_us"` // of round trips, where there are any
	PerSecond float64 `json:"per_second"`
	MBytes    float64 `json:"mb_per_second"` // of payload
	HostCPU   float64 `json:"host_cpu_us_per_message"`
}

// stream measures messages on one call: from the plugin, to it, or to and fro.
func (b *bench) stream(kind string, messages, size int) (*streamResult, error) {
	client := b.newClient(io.Discard)
	defer client.Kill()
	stub, err := probe(client)
	if err != nil {
		return nil, err
	}
	run, ok := map[string]func(probepb.ProbeClient, int, int) ([]time.Duration, error){
		"server": countMessages,
		"client": sendMessages,
		"chat":   pingPong,
	}[kind]
	if !ok {
		return nil, fmt.Errorf("no stream is called %q: server, client or chat", kind)
	}
	if _, err := run(stub, warmupMessages, size); err != nil {
		return nil, err
	}
	cpu, begin := cpuTime(), time.Now()
	durations, err := run(stub, messages, size)
	if err != nil {
		return nil, err
	}
	elapsed, cpu := time.Since(begin), cpuTime()-cpu
	result := &streamResult{
		Kind:      kind,
		Messages:  messages,
		Size:      size,
		PerSecond: float64(messages) / elapsed.Seconds(),
		MBytes:    float64(messages) * float64(size) / 1e6 / elapsed.Seconds(),
		HostCPU:   float64(cpu.Microseconds()) / float64(messages),
	}
	if len(durations) > 0 {
		result.Latency = summarize(durations, time.Microsecond)
	}
	return result, nil
}

func countMessages(stub probepb.ProbeClient, messages, size int) ([]time.Duration, error) {
	request := &probepb.CountRequest{N: int32(messages), Size: int32(size)}
	stream, err := stub.Count(context.Background(), request)
	if err != nil {
		return nil, err
	}
	received := 0
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, complete(received, messages)
		}
		if err != nil {
			return nil, err
		}
		received++
	}
}

func sendMessages(stub probepb.ProbeClient, messages, size int) ([]time.Duration, error) {
	stream, err := stub.Sum(context.Background())
	if err != nil {
		return nil, err
	}
	request := &probepb.SumRequest{Payload: make([]byte, size)}
	for range messages {
		if err := stream.Send(request); err != nil {
			return nil, err
		}
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return nil, complete(int(reply.Count), messages)
}

func pingPong(stub probepb.ProbeClient, messages, size int) ([]time.Duration, error) {
	stream, err := stub.Chat(context.Background())
	if err != nil {
		return nil, err
	}
	message := &probepb.ChatMessage{Payload: make([]byte, size)}
	durations := make([]time.Duration, 0, messages)
	for range messages {
		begin := time.Now()
		if err := stream.Send(message); err != nil {
			return nil, err
		}
		if _, err := stream.Recv(); err != nil {
			return nil, err
		}
		durations = append(durations, time.Since(begin))
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("expected the end of the stream, got %v", err)
	}
	return durations, nil
}

func complete(got, want int) error {
	if got != want {
		return fmt.Errorf("%d of %d messages arrived", got, want)
	}
	return nil
}
