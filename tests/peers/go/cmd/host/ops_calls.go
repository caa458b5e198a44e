package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/kvpb"
	"pygo-plugin.example/peers/probepb"
)

// callOptions are common to all requests that make a call.
type callOptions struct {
	TimeoutMS int `json:"timeout_ms"` // 30 s by default.
	// Request metadata. Values of keys ending in "-bin" are base64.
	Metadata map[string]string `json:"metadata"`
}

// call is one call in the making: its context, and what came with the answer.
type call struct {
	ctx               context.Context
	cancel            context.CancelFunc
	initial, trailing metadata.MD
}

func (o callOptions) newCall() (*call, error) {
	timeout := 30 * time.Second
	if o.TimeoutMS > 0 {
		timeout = time.Duration(o.TimeoutMS) * time.Millisecond
	}
	md := metadata.MD{}
	for key, value := range o.Metadata {
		if strings.HasSuffix(key, "-bin") {
			decoded, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("metadata %s: %w", key, err)
			}
			value = string(decoded)
		}
		md.Append(key, value)
	}
	c := &call{}
	c.ctx, c.cancel = context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), timeout)
	return c, nil
}

func (c *call) options() []grpc.CallOption {
	return []grpc.CallOption{grpc.Header(&c.initial), grpc.Trailer(&c.trailing)}
}

// finish completes the reply of a call, or wraps its error. What a stream gave
// before its error goes into the failure as "partial".
func (c *call) finish(answer reply, err error) (reply, error) {
	if err != nil {
		return nil, &callError{err: err, initial: c.initial, trailing: c.trailing, partial: answer}
	}
	answer["initial"] = encodeMetadata(c.initial)
	answer["trailing"] = encodeMetadata(c.trailing)
	return answer, nil
}

// callError is a failed call with the metadata that it ended with.
type callError struct {
	err               error
	initial, trailing metadata.MD
	partial           reply
}

func (e *callError) Error() string              { return e.err.Error() }
func (e *callError) Unwrap() error              { return e.err }
func (e *callError) GRPCStatus() *status.Status { return status.Convert(e.err) }

// encodeMetadata makes the values of binary keys base64.
func encodeMetadata(md metadata.MD) map[string][]string {
	encoded := make(map[string][]string, len(md))
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			encoded[key] = append(encoded[key], value)
		}
	}
	return encoded
}

// data is a payload in a request: as text, as base64, or just so many bytes.
type data struct {
	Value    string `json:"value"`
	ValueB64 []byte `json:"value_b64"`
	Size     int    `json:"size"`
}

func (d data) bytes() []byte {
	switch {
	case d.Size > 0:
		return bytes.Repeat([]byte{'x'}, d.Size)
	case d.ValueB64 != nil:
		return d.ValueB64
	default:
		return []byte(d.Value)
	}
}

// addData puts a payload into a reply. A request by size gets only the size back.
func (d data) addData(answer reply, payload []byte) {
	answer["size"] = len(payload)
	if d.Size == 0 {
		answer["value"] = string(payload)
		answer["value_b64"] = nonNil(payload)
	}
}

func kvGet(c *client, request struct {
	callOptions
	Key string `json:"key"`
}) (reply, error) {
	stub, call, err := prepare(c.kv, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	response, err := stub.Get(call.ctx, &kvpb.GetRequest{Key: request.Key}, call.options()...)
	answer := reply{}
	data{}.addData(answer, response.GetValue())
	if err != nil {
		answer = nil
	}
	return call.finish(answer, err)
}

func kvPut(c *client, request struct {
	callOptions
	data
	Key string `json:"key"`
}) (reply, error) {
	stub, call, err := prepare(c.kv, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	_, err = stub.Put(call.ctx, &kvpb.PutRequest{Key: request.Key, Value: request.bytes()}, call.options()...)
	return call.finishEmpty(err)
}

func echo(c *client, request struct {
	callOptions
	data
	DelayMS   int32 `json:"delay_ms"`
	ReplySize int32 `json:"reply_size"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	payload := request.bytes()
	begin := time.Now()
	response, err := stub.Echo(call.ctx, &probepb.EchoRequest{
		Payload:   payload,
		DelayMs:   request.DelayMS,
		ReplySize: request.ReplySize,
	}, call.options()...)
	if err != nil {
		return call.finish(nil, err)
	}
	received := metadata.MD{}
	for _, datum := range response.Metadata {
		received.Append(datum.Key, string(datum.Value))
	}
	answer := reply{
		"pid":               response.Pid,
		"time_remaining_ms": response.TimeRemainingMs,
		"metadata":          encodeMetadata(received),
		"equal":             bytes.Equal(payload, response.Payload),
		"duration_ms":       milliseconds(begin),
	}
	request.addData(answer, response.Payload)
	return call.finish(answer, nil)
}

func fail(c *client, request struct {
	callOptions
	Code    int32  `json:"code"`
	Details string `json:"details"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	_, err = stub.Fail(call.ctx, &probepb.FailRequest{Code: request.Code, Details: request.Details}, call.options()...)
	return call.finishEmpty(err)
}

// exit makes the plugin's process end in the middle of the call, so that the
// usual outcome is a failure with the code UNAVAILABLE.
func exit(c *client, request struct {
	callOptions
	Status int32 `json:"status"`
	Signal int32 `json:"signal"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	_, err = stub.Exit(call.ctx, &probepb.ExitRequest{Status: request.Status, Signal: request.Signal}, call.options()...)
	return call.finishEmpty(err)
}

func printLines(c *client, request struct {
	callOptions
	Repeat int32 `json:"repeat"`
	Lines  []struct {
		Channel string            `json:"channel"` // STDOUT, STDERR or LOG
		Text    string            `json:"text"`
		TextB64 []byte            `json:"text_b64"`
		Level   string            `json:"level"`
		Fields  map[string]string `json:"fields"`
		Raw     bool              `json:"raw"`
	} `json:"lines"`
}) (reply, error) {
	stub, call, err := prepare(c.probe, request.callOptions)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	message := &probepb.PrintRequest{Repeat: request.Repeat}
	for _, line := range request.Lines {
		channel, ok := probepb.Line_Channel_value[line.Channel]
		if !ok {
			return nil, fmt.Errorf("unknown channel %q", line.Channel)
		}
		message.Lines = append(message.Lines, &probepb.Line{
			Channel: probepb.Line_Channel(channel),
			Text:    data{Value: line.Text, ValueB64: line.TextB64}.bytes(),
			Level:   line.Level,
			Fields:  line.Fields,
			Raw:     line.Raw,
		})
	}
	_, err = stub.Print(call.ctx, message, call.options()...)
	return call.finishEmpty(err)
}

func environ(c *client, request callOptions) (reply, error) {
	stub, call, err := prepare(c.probe, request)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	response, err := stub.Environ(call.ctx, &probepb.EnvironRequest{}, call.options()...)
	if err != nil {
		return call.finish(nil, err)
	}
	argv := []string{}
	for _, arg := range response.Argv {
		argv = append(argv, string(arg))
	}
	return call.finish(reply{
		"environ":         texts(response.Environ),
		"argv":            argv,
		"cwd":             string(response.Cwd),
		"fds":             texts(response.Fds),
		"pid":             response.Pid,
		"ppid":            response.Ppid,
		"pgid":            response.Pgid,
		"stdin_is_tty":    response.StdinIsTty,
		"signals_blocked": response.SignalsBlocked,
		"signals_ignored": response.SignalsIgnored,
		"signals_caught":  response.SignalsCaught,
		"version":         response.Version,
	}, nil)
}

func texts[K comparable](values map[K][]byte) map[K]string {
	converted := make(map[K]string, len(values))
	for key, value := range values {
		converted[key] = string(value)
	}
	return converted
}

// prepare dispenses a stub and sets up a call.
func prepare[T any](dispense func() (T, error), options callOptions) (T, *call, error) {
	stub, err := dispense()
	if err != nil {
		return stub, nil, err
	}
	call, err := options.newCall()
	return stub, call, err
}

// finishEmpty is finish for calls whose answer holds nothing.
func (c *call) finishEmpty(err error) (reply, error) {
	if err != nil {
		return c.finish(nil, err)
	}
	return c.finish(reply{}, nil)
}
