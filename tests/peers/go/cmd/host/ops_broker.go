package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"pygo-plugin.example/peers/internal/peer"
)

func (c *client) broker() (*peer.BrokerClient, error) {
	return dispenseAs[*peer.BrokerClient](c, "test")
}

// many says how often something is to be done, and how often at the same time.
type many struct {
	Count    int `json:"count"`
	Parallel int `json:"parallel"`
}

// do calls once for each of them, and returns the first error.
func (m many) do(once func() error) error {
	turns := make(chan struct{}, max(m.Count, 1))
	for range cap(turns) {
		turns <- struct{}{}
	}
	close(turns)
	errs := make(chan error, max(m.Parallel, 1))
	var workers sync.WaitGroup
	for range cap(errs) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range turns {
				if err := once(); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	workers.Wait()
	close(errs)
	return <-errs
}

// serving lends the plugin a server for as long as a function runs, which gets its id in digits.
func serving(b *peer.BrokerClient, register func(*grpc.Server), use func(id string) error) error {
	id, stop := peer.Serve(b.Broker, register)
	defer stop()
	return use(fmt.Sprint(id))
}

func registerServed(server *grpc.Server) {
	peer.RegisterServed(server, "host: ")
}

// callBack has the plugin call what this host serves.
func callBack(c *client, request many) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	return reply{}, request.do(func() error {
		return serving(b, registerServed, func(id string) error {
			return answers(b, "CallBack", id, "host: "+id)
		})
	})
}

// callDialled calls what the plugin serves.
func callDialled(c *client, request many) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	return reply{}, request.do(func() error {
		id, err := b.Call("Serve", nil)
		if err != nil {
			return err
		}
		answer, err := peer.CallDialled(b.Broker, id, "Echo", peer.Bytes("x"))
		if err == nil && string(answer) != "plugin: x" {
			err = fmt.Errorf("Echo answered %q", answer)
		}
		if err == nil {
			_, err = b.Call("Stop", id)
		}
		return err
	})
}

// nest calls the plugin, which calls the host, which calls the plugin.
func nest(c *client, request many) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	register := func(server *grpc.Server) {
		peer.Register(server, peer.TestService, map[string]peer.Method{
			"Nest": func(_ context.Context, id peer.Bytes) (peer.Bytes, error) {
				answer, err := peer.CallDialled(b.Broker, id, "Echo", peer.Bytes("host"))
				return append(peer.Bytes("host: "), answer...), err
			},
		})
	}
	return reply{}, request.do(func() error {
		return serving(b, register, func(id string) error {
			return answers(b, "Nest", id, "host: innermost: host")
		})
	})
}

// exercise makes calls of every kind over brokered connections, which the plugin dials first and
// then the host.
func exercise(c *client, _ struct{}) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	var answer reply
	err = serving(b, registerServed, func(id string) error {
		called, err := b.Call("Exercise", peer.Bytes(id))
		answer = reply{"plugin": string(called)}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the plugin's calls: %w", err)
	}
	id, err := b.Call("ServeAll", nil)
	if err != nil {
		return nil, err
	}
	conn, err := peer.Dial(b.Broker, id)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	called, err := peer.Exercise(conn)
	answer["host"] = string(called)
	if err == nil {
		_, err = b.Call("Stop", id)
	}
	return answer, err
}

// hangInHost returns when the plugin has called this host, which never answers.
func hangInHost(c *client, _ struct{}) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	entered := make(chan struct{})
	ended := make(chan error, 1)
	id, _ := peer.Serve(b.Broker, func(server *grpc.Server) {
		peer.Register(server, peer.TestService, map[string]peer.Method{
			"Hang": func(ctx context.Context, _ peer.Bytes) (peer.Bytes, error) {
				close(entered)
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
	})
	go func() {
		_, err := b.Call("Hang", fmt.Append(nil, id))
		ended <- err
	}()
	select {
	case <-entered:
		return reply{}, nil
	case err := <-ended:
		return nil, fmt.Errorf("Hang ended: %w", err)
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("no call arrived")
	}
}

// callTest calls a method of the plugin's TestService.
func callTest(c *client, request struct {
	Method string `json:"method"`
	Text   string `json:"text"`
}) (reply, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	answer, err := b.Call(request.Method, peer.Bytes(request.Text))
	return reply{"text": string(answer)}, err
}

func descriptors(*session, json.RawMessage) (reply, error) {
	count, err := peer.Descriptors()
	return reply{"descriptors": count}, err
}

func answers(b *peer.BrokerClient, method, id, expected string) error {
	answer, err := b.Call(method, peer.Bytes(id))
	if err == nil && string(answer) != expected {
		err = fmt.Errorf("%s answered %q", method, answer)
	}
	return err
}
