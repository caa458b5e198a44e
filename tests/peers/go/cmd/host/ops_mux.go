package main

import (
	"fmt"

	"pygo-plugin.example/peers/internal/rpcpeer"
)

// lending is what is lent: how often, how often at the same time, and how many bytes.
type lending struct {
	many
	Size  int `json:"size"`
	Depth int `json:"depth"`
}

// lent makes an operation of a function that lends or borrows once.
func lent(once func(test *rpcpeer.Client, request lending) error) operation {
	return onClient(func(c *client, request lending) (reply, error) {
		test, err := c.object("test")
		if err != nil {
			return nil, err
		}
		return nil, request.do(func() error { return once(test, request) })
	})
}

// rpcCallBack has the plugin call an object of this host's.
func rpcCallBack(test *rpcpeer.Client, request lending) error {
	payload := rpcpeer.Pattern(request.Size)
	id := test.Broker.NextId()
	go test.Broker.AcceptAndServe(id, rpcpeer.NewTest("host", test.Broker, nil))
	return echoes(payload, func(answer *[]byte) error {
		return test.Call("Plugin.CallBack", rpcpeer.CallBackArgs{ID: id, Payload: payload}, answer)
	})
}

// rpcCallServed calls an object that the plugin serves under a new id.
func rpcCallServed(test *rpcpeer.Client, request lending) error {
	var id uint32
	if err := test.Call("Plugin.Serve", struct{}{}, &id); err != nil {
		return err
	}
	payload := rpcpeer.Pattern(request.Size)
	return echoes(payload, func(answer *[]byte) error {
		return rpcpeer.CallDialled(test.Broker, id, "Echo", payload, answer)
	})
}

// rpcDescend has both sides call each other in turns, each within a call of the other's.
func rpcDescend(test *rpcpeer.Client, request lending) error {
	id := test.Broker.NextId()
	go test.Broker.AcceptAndServe(id, rpcpeer.NewTest("host", test.Broker, nil))
	var sides string
	err := test.Call("Plugin.Descend", rpcpeer.DescendArgs{ID: id, Depth: request.Depth}, &sides)
	if err != nil {
		return err
	}
	expected := "plugin"
	for depth := range request.Depth {
		expected += []string{" host", " plugin"}[depth%2]
	}
	if sides != expected {
		return fmt.Errorf("called %q rather than %q", sides, expected)
	}
	return nil
}

// lendReader has the plugin read from this host.
func lendReader(test *rpcpeer.Client, request lending) error {
	id := test.Broker.NextId()
	written := make(chan error, 1)
	go func() {
		conn, err := test.Broker.Accept(id)
		if err == nil {
			err = rpcpeer.WritePattern(conn, request.Size)
		}
		written <- err
	}()
	var digest rpcpeer.Digest
	if err := test.Call("Plugin.ReadFrom", id, &digest); err != nil {
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	return request.check(digest)
}

// lendWriter has the plugin write to this host.
func lendWriter(test *rpcpeer.Client, request lending) error {
	id := test.Broker.NextId()
	read := make(chan error, 1)
	go func() {
		conn, err := test.Broker.Accept(id)
		if err == nil {
			var digest rpcpeer.Digest
			if digest, err = rpcpeer.DigestOf(conn); err == nil {
				err = request.check(digest)
			}
			conn.Close()
		}
		read <- err
	}()
	err := test.Call("Plugin.WriteTo", rpcpeer.WriteArgs{ID: id, Size: request.Size}, &struct{}{})
	if err != nil {
		return err
	}
	return <-read
}

// borrowReader reads what the plugin lends.
func borrowReader(test *rpcpeer.Client, request lending) error {
	var id uint32
	if err := test.Call("Plugin.LendReader", request.Size, &id); err != nil {
		return err
	}
	conn, err := test.Broker.Dial(id)
	if err != nil {
		return err
	}
	defer conn.Close()
	digest, err := rpcpeer.DigestOf(conn)
	if err != nil {
		return err
	}
	return request.check(digest)
}

// borrowWriter writes to what the plugin lends.
func borrowWriter(test *rpcpeer.Client, request lending) error {
	var id uint32
	if err := test.Call("Plugin.LendWriter", struct{}{}, &id); err != nil {
		return err
	}
	conn, err := test.Broker.Dial(id)
	if err != nil {
		return err
	}
	if err := rpcpeer.WritePattern(conn, request.Size); err != nil {
		return err
	}
	var digest rpcpeer.Digest
	if err := test.Call("Plugin.Written", id, &digest); err != nil {
		return err
	}
	return request.check(digest)
}

// check compares what came with the pattern.
func (l lending) check(digest rpcpeer.Digest) error {
	expected := rpcpeer.DigestOfPattern(l.Size)
	if digest != expected {
		return fmt.Errorf("%+v came rather than %+v", digest, expected)
	}
	return nil
}
