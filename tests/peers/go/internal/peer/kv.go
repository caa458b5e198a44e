package peer

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/kvpb"
)

// kv keeps its values in memory.
type kv struct {
	kvpb.UnimplementedKVServer
	mu     sync.Mutex
	values map[string][]byte
}

func newKV() *kv {
	return &kv{values: make(map[string][]byte)}
}

func (s *kv) Get(_ context.Context, req *kvpb.GetRequest) (*kvpb.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[req.Key]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "no such key: %s", req.Key)
	}
	return &kvpb.GetResponse{Value: value}, nil
}

func (s *kv) Put(_ context.Context, req *kvpb.PutRequest) (*kvpb.PutResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[req.Key] = req.Value
	return &kvpb.PutResponse{}, nil
}
