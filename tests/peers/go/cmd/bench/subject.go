package main

import (
	"context"

	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/gobtypes"
	"pygo-plugin.example/peers/internal/peer"
	"pygo-plugin.example/peers/internal/rpcpeer"
	"pygo-plugin.example/peers/probepb"
)

// subject is what calls are made of, over either protocol.
type subject interface {
	echo(payload []byte) error
	// callBack has the plugin dial this host, and call it once.
	callBack(payload []byte) error
	// order sends a large struct there and back.
	order() error
}

// subject starts the plugin of a client if need be.
func (b *bench) subject(client *plugin.Client) (subject, error) {
	if !b.netRPC {
		stub, err := probe(client)
		return overGRPC{stub}, err
	}
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	raw, err := protocol.Dispense("test")
	if err != nil {
		return nil, err
	}
	return &overNetRPC{raw.(*rpcpeer.Client), gobtypes.NewOrder(100)}, nil
}

type overGRPC struct{ stub *peer.Probe }

func (s overGRPC) echo(payload []byte) error {
	_, err := s.stub.Echo(context.Background(), &probepb.EchoRequest{Payload: payload})
	return err
}

func (s overGRPC) callBack(payload []byte) error {
	return s.stub.CallBackOnce(context.Background(), payload)
}

// order is refused by bench.run.
func (s overGRPC) order() error { panic("no struct over gRPC") }

type overNetRPC struct {
	client *rpcpeer.Client
	sent   gobtypes.Order
}

func (s *overNetRPC) echo(payload []byte) error {
	var answer []byte
	return s.client.Call("Plugin.Echo", payload, &answer)
}

func (s *overNetRPC) callBack(payload []byte) error {
	id := s.client.Broker.NextId()
	go s.client.Broker.AcceptAndServe(id, rpcpeer.Echo{})
	var answer []byte
	return s.client.Call("Plugin.CallBack", rpcpeer.CallBackArgs{ID: id, Payload: payload}, &answer)
}

func (s *overNetRPC) order() error {
	var answer gobtypes.Order
	return s.client.Call("Plugin.Order", &s.sent, &answer)
}
