package peer

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"pygo-plugin.example/peers/probepb"
)

// Request metadata with one of these prefixes asks for metadata in return.
const (
	wantInitial  = "want-initial-"
	wantTrailing = "want-trailing-"
)

// answerMetadata sets the initial and trailing metadata that the request asks
// for, and returns all that the request carries.
func answerMetadata(ctx context.Context) ([]*probepb.Metadatum, error) {
	var received []*probepb.Metadatum
	initial, trailing := metadata.MD{}, metadata.MD{}

	request, _ := metadata.FromIncomingContext(ctx)
	for key, values := range request {
		for _, value := range values {
			received = append(received, &probepb.Metadatum{Key: key, Value: []byte(value)})
		}
		if name, ok := strings.CutPrefix(key, wantInitial); ok {
			initial.Append(name, values...)
		}
		if name, ok := strings.CutPrefix(key, wantTrailing); ok {
			trailing.Append(name, values...)
		}
	}
	if len(initial) > 0 {
		if err := grpc.SetHeader(ctx, initial); err != nil {
			return nil, err
		}
	}
	if len(trailing) > 0 {
		if err := grpc.SetTrailer(ctx, trailing); err != nil {
			return nil, err
		}
	}
	return received, nil
}
