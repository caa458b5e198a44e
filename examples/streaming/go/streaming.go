// Package streaming is what the example's host and plugin in Go have in common: the handshake, and the
// files of the other side, in both roles.
package streaming

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/streaming/filepb"
)

// Handshake has to be the same as in shared.py.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "STREAMING_EXAMPLE_PLUGIN",
	MagicCookieValue: "0c9a7d52-streaming",
}

// most is how many bytes one message carries.
const most = 1 << 20

// ---- What Python's broker.open_io() does ----

// Remote is a file of the other side's, to read from or to write to.
type Remote struct {
	conn *grpc.ClientConn
	stub filepb.FileClient
}

// Open connects to the file that the other side serves under an id.
func Open(broker *plugin.GRPCBroker, id uint32) (*Remote, error) {
	conn, err := broker.Dial(id)
	if err != nil {
		return nil, err
	}
	return &Remote{conn, filepb.NewFileClient(conn)}, nil
}

// Read implements io.Reader.
func (r *Remote) Read(buffer []byte) (int, error) {
	if len(buffer) == 0 {
		return 0, nil
	}
	size := int64(min(len(buffer), most))
	reply, err := r.stub.Read(context.Background(), &filepb.ReadRequest{Size: size})
	if err == nil && len(reply.Data) == 0 {
		err = io.EOF
	}
	return copy(buffer, reply.GetData()), err
}

// Write implements io.Writer.
func (r *Remote) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		part := data[written:min(len(data), written+most)]
		reply, err := r.stub.Write(context.Background(), &filepb.WriteRequest{Data: part})
		if err != nil {
			return written, err
		}
		written += int(reply.Size)
	}
	return written, nil
}

// Close flushes what was written, and ends the connection.
func (r *Remote) Close() error {
	_, err := r.stub.Close(context.Background(), &filepb.CloseRequest{})
	return errors.Join(err, r.conn.Close())
}

// ---- What Python's broker.serve_io() does ----

type fileServer struct {
	filepb.UnimplementedFileServer
	reader io.Reader
	writer io.Writer
}

func (f *fileServer) Read(_ context.Context, req *filepb.ReadRequest) (*filepb.ReadReply, error) {
	if f.reader == nil {
		return nil, status.Error(codes.Internal, "the file is not open for reading")
	}
	data := make([]byte, min(max(req.Size, 1), most))
	for {
		n, err := f.reader.Read(data)
		if n > 0 || err == io.EOF { // Nothing is the end.
			return &filepb.ReadReply{Data: data[:n]}, nil
		}
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
}

func (f *fileServer) Write(_ context.Context, req *filepb.WriteRequest) (*filepb.WriteReply, error) {
	if f.writer == nil {
		return nil, status.Error(codes.Internal, "the file is not open for writing")
	}
	n, err := f.writer.Write(req.Data)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &filepb.WriteReply{Size: int64(n)}, nil
}

func (f *fileServer) Close(context.Context, *filepb.CloseRequest) (*filepb.CloseReply, error) {
	return &filepb.CloseReply{}, nil
}

// Serve lends a reader or a writer, the other one being nil, until the function that it returns is
// called. It waits until the id is accepted.
func Serve(broker *plugin.GRPCBroker, reader io.Reader, writer io.Writer) (uint32, func()) {
	id := broker.NextId()
	servers := make(chan *grpc.Server, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		broker.AcceptAndServe(id, func(options []grpc.ServerOption) *grpc.Server {
			server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(math.MaxInt32))...)
			filepb.RegisterFileServer(server, &fileServer{reader: reader, writer: writer})
			servers <- server
			return server
		})
	}()
	select {
	case server := <-servers:
		return id, server.Stop
	case <-done: // It never came to that, as go-plugin's log says.
		return id, func() {}
	}
}
