package peer

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // which is registered first
	"google.golang.org/grpc/mem"
)

// Bytes is a message as it travels, without protobuf.
type Bytes []byte

// codec leaves messages of bytes alone. All others are protobuf's.
type codec struct {
	encoding.CodecV2
}

func init() {
	encoding.RegisterCodecV2(codec{encoding.GetCodecV2("proto")})
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if message, ok := v.(*Bytes); ok {
		return mem.BufferSlice{mem.SliceBuffer(*message)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, ok := v.(*Bytes); ok {
		*message = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Method takes and gives bytes.
type Method func(context.Context, Bytes) (Bytes, error)

// Register adds a service of such methods to a server.
func Register(server *grpc.Server, service string, methods map[string]Method) {
	description := &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}
	for name, method := range methods {
		description.Methods = append(description.Methods, grpc.MethodDesc{
			MethodName: name,
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var request Bytes
				if err := decode(&request); err != nil {
					return nil, err
				}
				answer, err := method(ctx, request)
				if err != nil {
					return nil, err
				}
				return &answer, nil
			},
		})
	}
	server.RegisterService(description, nil)
}

// Call calls such a method.
func Call(ctx context.Context, conn grpc.ClientConnInterface, service, method string, request Bytes) (Bytes, error) {
	var answer Bytes
	err := conn.Invoke(ctx, "/"+service+"/"+method, &request, &answer)
	return answer, err
}
