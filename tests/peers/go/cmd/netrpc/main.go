// Command netrpc speaks Go's net/rpc over connections of its own, without go-plugin.
//
//	netrpc -serve unix:/path
//	netrpc -call unix:/path
//
// With -serve it prints the address that it listens on, as net/rpc's Arith, and serves until its
// stdin ends. With -call it calls a server of the same methods, prints one line of JSON about each
// outcome, and exits.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"strings"
	"sync"
	"time"
)

// Args are those of Add and Divide.
type Args struct {
	A, B int
}

// Quotient is what Divide answers.
type Quotient struct {
	Quo, Rem int
	Notes    []string
}

// Nothing is an argument or a reply without a value.
type Nothing struct{}

// Arith is the service.
type Arith struct {
	mu      sync.Mutex
	blocked map[string]chan struct{}
}

// Add adds.
func (a *Arith) Add(args Args, reply *int) error {
	*reply = args.A + args.B
	return nil
}

// Divide divides, or fails.
func (a *Arith) Divide(args *Args, reply *Quotient) error {
	if args.B == 0 {
		return errors.New("divide by zero")
	}
	*reply = Quotient{args.A / args.B, args.A % args.B, []string{"exact"}}
	return nil
}

// Echo returns its argument.
func (a *Arith) Echo(in []byte, out *[]byte) error {
	*out = in
	return nil
}

// Any returns its argument, whatever it is.
func (a *Arith) Any(in any, out *any) error {
	*out = in
	return nil
}

// Block waits until Release has been called with the same name.
func (a *Arith) Block(name string, reply *string) error {
	<-a.channel(name)
	*reply = name
	return nil
}

// Release ends Block.
func (a *Arith) Release(name string, _ *Nothing) error {
	close(a.channel(name))
	return nil
}

func (a *Arith) channel(name string) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.blocked[name] == nil {
		a.blocked[name] = make(chan struct{})
	}
	return a.blocked[name]
}

func main() {
	serve := flag.String("serve", "", "serve at this `address`, unix:/path or host:port")
	call := flag.String("call", "", "call the server at this `address`")
	flag.Parse()
	var err error
	switch {
	case *serve != "":
		err = serveAt(*serve)
	case *call != "":
		err = callAt(*call)
	default:
		err = errors.New("give -serve or -call")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "netrpc:", err)
		os.Exit(1)
	}
}

func split(address string) (network, where string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

func serveAt(address string) error {
	listener, err := net.Listen(split(address))
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.Register(&Arith{blocked: make(map[string]chan struct{})}); err != nil {
		return err
	}
	go server.Accept(listener)
	if listener.Addr().Network() == "unix" {
		fmt.Println(address)
	} else {
		fmt.Println(listener.Addr())
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, listener.Close())
}

// outcome is how a call ended.
type outcome struct {
	Method string `json:"method"`
	Reply  any    `json:"reply,omitempty"`
	Error  string `json:"error,omitempty"`
}

func callAt(address string) error {
	network, where := split(address)
	client, err := rpc.Dial(network, where)
	if err != nil {
		return err
	}
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	report := func(method string, reply any, err error) {
		made := outcome{Method: method}
		if err != nil {
			made.Error = err.Error()
		} else {
			made.Reply = reply
		}
		out.Encode(made)
	}

	var sum int
	report("Arith.Add", &sum, client.Call("Arith.Add", Args{7, 8}, &sum))
	var quotient Quotient
	report("Arith.Divide", &quotient, client.Call("Arith.Divide", &Args{17, 5}, &quotient))
	report("Arith.Divide", nil, client.Call("Arith.Divide", &Args{1, 0}, &quotient))
	report("Arith.Nope", nil, client.Call("Arith.Nope", Args{}, &sum))
	report("Nope.Add", nil, client.Call("Nope.Add", Args{}, &sum))
	report("Arith", nil, client.Call("Arith", Args{}, &sum))
	report("Arith.Add", nil, client.Call("Arith.Add", "no struct", &sum))
	var size int
	data := make([]byte, 1<<20)
	echoed := []byte{}
	err = client.Call("Arith.Echo", data, &echoed)
	size = len(echoed)
	report("Arith.Echo", size, err)
	var nothing Nothing
	first := client.Go("Arith.Block", "first", new(string), nil)
	second := client.Go("Arith.Block", "second", new(string), nil)
	for _, call := range []*rpc.Call{second, first} {
		name := call.Args.(string)
		if err := client.Call("Arith.Release", name, &nothing); err != nil {
			return err
		}
		select {
		case <-call.Done:
			report("Arith.Block", call.Reply, call.Error)
		case <-time.After(time.Minute):
			return fmt.Errorf("%s is not answered", name)
		}
	}
	var text string // Go's client gives up after a reply of another type.
	report("Arith.Add", nil, client.Call("Arith.Add", Args{1, 1}, &text))
	return nil
}
