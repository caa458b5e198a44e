package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"pygo-plugin.example/peers/probepb"
)

// holdOpen makes calls that stay open while bench/memory.py looks at both processes:
// it prints a line before the first call and one when the plugin works on all
// of them, and waits for a line of input after each.
func (b *bench) holdOpen(calls int) error {
	client := b.newClient(io.Discard)
	defer client.Kill()
	stub, err := probe(client)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range warmup {
		if _, err := stub.Echo(ctx, &probepb.EchoRequest{}); err != nil {
			return err
		}
	}
	pause := pauses()
	if err := pause("idle"); err != nil {
		return err
	}
	for range calls {
		go stub.Hang(ctx, &probepb.HangRequest{})
	}
	for {
		seen, err := stub.Cancelled(ctx, &probepb.CancelledRequest{})
		if err != nil {
			return err
		}
		if int(seen.Started) == calls {
			return pause("open")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// holdPlugins does the same with plugins that run at the same time: it prints a
// line when one of them has answered and when all have.
func (b *bench) holdPlugins(count int) error {
	pause := pauses()
	for number := range count {
		client := b.newClient(io.Discard)
		defer client.Kill()
		stub, err := probe(client)
		if err != nil {
			return err
		}
		if _, err := stub.Echo(context.Background(), &probepb.EchoRequest{}); err != nil {
			return err
		}
		if number == 0 {
			if err := pause("one"); err != nil {
				return err
			}
		}
	}
	return pause("all")
}

// pauses makes a function that prints a word and waits for a line of input.
func pauses() func(word string) error {
	input := bufio.NewReader(os.Stdin)
	return func(word string) error {
		fmt.Println(word)
		_, err := input.ReadString('\n')
		return err
	}
}
