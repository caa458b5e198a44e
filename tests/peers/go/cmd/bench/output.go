package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"pygo-plugin.example/peers/probepb"
)

const outputPiece = 64 << 10

// counter takes what the plugin prints, and tells when all of it is there.
type counter struct {
	left atomic.Int64
	done chan struct{}
}

func (c *counter) Write(p []byte) (int, error) {
	if left := c.left.Add(-int64(len(p))); left <= 0 && left+int64(len(p)) > 0 {
		close(c.done)
	}
	return len(p), nil
}

// output has the plugin print some MiB to its stdout.
func (b *bench) output(mebibytes int) (map[string]any, error) {
	size := int64(mebibytes) << 20
	taken := &counter{done: make(chan struct{})}
	taken.left.Store(size)
	client := b.newClientWith(io.Discard, taken)
	defer client.Kill()
	stub, err := probe(client)
	if err != nil {
		return nil, err
	}
	line := &probepb.Line{Channel: probepb.Line_STDOUT, Text: bytes.Repeat([]byte("x"), outputPiece)}
	request := &probepb.PrintRequest{Lines: []*probepb.Line{line}, Repeat: int32(size / outputPiece)}
	begin := time.Now()
	if _, err := stub.Print(context.Background(), request); err != nil {
		return nil, err
	}
	select {
	case <-taken.done:
	case <-time.After(time.Minute):
		return nil, errors.New("not all of the output arrived")
	}
	return map[string]any{"mb_per_second": float64(size) / 1e6 / time.Since(begin).Seconds()}, nil
}
