package main

import (
	"encoding/json"
	"fmt"
	"net/rpc"
	"reflect"
	"runtime"
	"time"

	"pygo-plugin.example/peers/internal/gobjson"
	"pygo-plugin.example/peers/internal/gobtypes"
	"pygo-plugin.example/peers/internal/rpcpeer"
)

// object returns what a plugin serves over net/rpc. It is dispensed once.
func (c *client) object(name string) (*rpcpeer.Client, error) {
	if found, ok := c.objects[name]; ok {
		return found, nil
	}
	dispensed, err := dispenseAs[*rpcpeer.Client](c, name)
	if err == nil {
		c.objects[name] = dispensed
	}
	return dispensed, err
}

// rpcCall is a call of any method with values of any type, as package gobjson describes them.
type rpcCall struct {
	Plugin    string          `json:"plugin"`  // "test" by default.
	Service   string          `json:"service"` // "Plugin" by default.
	Method    string          `json:"method"`
	Type      json.RawMessage `json:"type"` // of the argument; Nothing by default
	Value     json.RawMessage `json:"value"`
	Reply     json.RawMessage `json:"reply"` // type of the reply; Nothing by default
	TimeoutMS int             `json:"timeout_ms"`
}

// begun is a call that is under way.
type begun struct {
	call  *rpc.Call
	reply reflect.Value
}

func (r *rpcCall) begin(c *client) (*begun, error) {
	object, err := c.object(orElse(r.Plugin, "test"))
	if err != nil {
		return nil, err
	}
	argumentType, err := gobjson.Type(orElse(r.Type, json.RawMessage(`"Nothing"`)))
	if err != nil {
		return nil, err
	}
	replyType, err := gobjson.Type(orElse(r.Reply, json.RawMessage(`"Nothing"`)))
	if err != nil {
		return nil, err
	}
	argument, err := gobjson.New(argumentType, r.Value)
	if err != nil {
		return nil, err
	}
	reply := reflect.New(replyType)
	method := orElse(r.Service, "Plugin") + "." + r.Method
	return &begun{object.Go(method, argument.Interface(), reply.Interface(), nil), reply}, nil
}

func (b *begun) wait(timeoutMS int) (reply, error) {
	timeout := time.Duration(orElse(timeoutMS, 30_000)) * time.Millisecond
	select {
	case <-b.call.Done:
		if b.call.Error != nil {
			return nil, b.call.Error
		}
		return reply{"value": gobjson.Show(b.reply.Elem())}, nil
	case <-time.After(timeout):
		return nil, fmt.Errorf("no reply within %s", timeout)
	}
}

func callRPC(c *client, request rpcCall) (reply, error) {
	call, err := request.begin(c)
	if err != nil {
		return nil, err
	}
	return call.wait(request.TimeoutMS)
}

// beginRPC starts a call, which gets a name, and waitRPC waits for it.
func beginRPC(c *client, request struct {
	rpcCall
	Call string `json:"call"`
}) (reply, error) {
	call, err := request.begin(c)
	if err == nil {
		c.calls[request.Call] = call
	}
	return nil, err
}

func waitRPC(c *client, request struct {
	Call      string `json:"call"`
	TimeoutMS int    `json:"timeout_ms"`
}) (reply, error) {
	call, ok := c.calls[request.Call]
	if !ok {
		return nil, fmt.Errorf("no call %q has begun", request.Call)
	}
	return call.wait(request.TimeoutMS)
}

// callTypes has the plugin named "types" echo all samples, and reports what came back different.
func callTypes(c *client, _ struct{}) (reply, error) {
	types, err := c.object("types")
	if err != nil {
		return nil, err
	}
	checked, failures := 0, []string{}
	for _, sample := range gobtypes.Samples() {
		for _, value := range sample.Values {
			checked++
			sent := shown(value)
			answer := reflect.New(reflect.TypeOf(value).Elem()).Interface()
			if err := types.Call("Plugin."+sample.Kind, value, answer); err != nil {
				failures = append(failures, fmt.Sprintf("%s of %s: %v", sample.Kind, sent, err))
			} else if received := shown(answer); received != sent {
				failures = append(failures, fmt.Sprintf("%s of %s: %s", sample.Kind, sent, received))
			}
		}
	}
	return reply{"checked": checked, "failures": failures}, nil
}

// shown is the JSON of what a pointer points to.
func shown(pointer any) string {
	text, err := json.Marshal(gobjson.Show(reflect.ValueOf(pointer).Elem()))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// manyCalls calls Echo and compares the answers.
func manyCalls(c *client, request struct {
	many
	Size int `json:"size"`
}) (reply, error) {
	test, err := c.object("test")
	if err != nil {
		return nil, err
	}
	payload := rpcpeer.Pattern(request.Size)
	return nil, request.do(func() error {
		return echoes(payload, func(answer *[]byte) error {
			return test.Call("Plugin.Echo", payload, answer)
		})
	})
}

// echoes checks that a call answers with its payload.
func echoes(payload []byte, call func(answer *[]byte) error) error {
	var answer []byte
	if err := call(&answer); err != nil {
		return err
	}
	if string(answer) != string(payload) {
		return fmt.Errorf("%d bytes came back for %d, or others", len(answer), len(payload))
	}
	return nil
}

func goroutines(*session, json.RawMessage) (reply, error) {
	return reply{"goroutines": runtime.NumGoroutine()}, nil
}

// orElse returns the first that is not zero.
func orElse[T any](value, other T) T {
	if reflect.ValueOf(value).IsZero() {
		return other
	}
	return value
}
