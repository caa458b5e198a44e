// Command host drives plugins through go-plugin's own client.
//
// It reads one JSON object per line from stdin, and answers each with one JSON
// object on a line of stdout:
//
//	{"op":"start","cmd":["./plugin"]}    {"ok":true,"pid":4711,...}
//	{"op":"kv_get","key":"nothing"}      {"ok":false,"error":"...","code":"NOT_FOUND",...}
//
// Every request may name a "client", so that one host can have several plugins.
// At the end of its input it kills all of them and exits.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
)

// reply is what goes to stdout, together with "ok".
type reply map[string]any

// operation answers one request, given as the whole JSON object.
type operation func(s *session, request json.RawMessage) (reply, error)

var operations = map[string]operation{
	"start":           start,
	"dispense":        onClient(dispense),
	"ping":            onClient(ping),
	"exited":          onClient(exited),
	"reattach_config": onClient(reattachConfig),
	"kill":            onClient(kill),
	"logs":            onClient(logs),
	"stdio":           onClient(stdio),
	"cleanup":         cleanup,

	"kv_get":      onClient(kvGet),
	"kv_put":      onClient(kvPut),
	"echo":        onClient(echo),
	"fail":        onClient(fail),
	"count":       onClient(count),
	"sum":         onClient(sum),
	"chat":        onClient(chat),
	"hang_cancel": onClient(hangCancel),
	"hang_many":   onClient(hangMany),
	"hang_on":     onClient(hangOn),
	"exit":        onClient(exit),
	"print":       onClient(printLines),
	"environ":     onClient(environ),

	"call_back":    onClient(callBack),
	"call_dialled": onClient(callDialled),
	"nest":         onClient(nest),
	"exercise":     onClient(exercise),
	"hang_in_host": onClient(hangInHost),
	"call_test":    onClient(callTest),
	"descriptors":  descriptors,

	"rpc_call":          onClient(callRPC),
	"rpc_begin":         onClient(beginRPC),
	"rpc_wait":          onClient(waitRPC),
	"rpc_types":         onClient(callTypes),
	"rpc_many":          onClient(manyCalls),
	"rpc_call_back":     lent(rpcCallBack),
	"rpc_call_served":   lent(rpcCallServed),
	"rpc_descend":       lent(rpcDescend),
	"rpc_lend_reader":   lent(lendReader),
	"rpc_lend_writer":   lent(lendWriter),
	"rpc_borrow_reader": lent(borrowReader),
	"rpc_borrow_writer": lent(borrowWriter),
	"goroutines":        goroutines,

	"health":  onClient(health),
	"reflect": onClient(reflectServices),
}

func main() {
	s := &session{clients: make(map[string]*client)}
	err := s.run(os.Stdin, os.Stdout)
	s.killAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		os.Exit(1)
	}
}

// run answers requests until the input ends.
func (s *session) run(input io.Reader, output io.Writer) error {
	requests := json.NewDecoder(bufio.NewReader(input))
	replies := json.NewEncoder(output)
	replies.SetEscapeHTML(false)
	for {
		var request json.RawMessage
		if err := requests.Decode(&request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := replies.Encode(s.answer(request)); err != nil {
			return err
		}
	}
}

func (s *session) answer(request json.RawMessage) reply {
	var header struct {
		Op string `json:"op"`
	}
	if err := json.Unmarshal(request, &header); err != nil {
		return failure(err)
	}
	op, ok := operations[header.Op]
	if !ok {
		return failure(fmt.Errorf("unknown op %q", header.Op))
	}
	answer, err := op(s, request)
	if err != nil {
		return failure(err)
	}
	if answer == nil {
		answer = reply{}
	}
	answer["ok"] = true
	return answer
}

// failure describes an error, with the status code and trailing metadata if it
// came from a call.
func failure(err error) reply {
	answer := reply{"ok": false, "error": err.Error()}
	var call *callError
	if errors.As(err, &call) {
		answer["initial"] = encodeMetadata(call.initial)
		answer["trailing"] = encodeMetadata(call.trailing)
		if call.partial != nil {
			answer["partial"] = call.partial
		}
	}
	var serverError rpc.ServerError
	if errors.As(err, &serverError) {
		answer["server_error"] = true
	}
	if st, ok := status.FromError(err); ok {
		answer["code"] = code.Code(st.Code()).String()
		answer["details"] = st.Message()
	}
	return answer
}
