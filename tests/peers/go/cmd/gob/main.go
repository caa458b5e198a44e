// Command gob encodes and decodes with Go's encoding/gob, for tests of other implementations.
//
//	gob                      answers requests on stdin, one JSON object in a line each
//	gob -samples             prints a line {"kind": K, "type": T, "values": [V, ...], "hex": H} for each
//	                         kind of gobtypes.Samples, whose values follow each other in the stream H
//	gob -time DURATION       prints how many microseconds it takes to encode and to decode an Order of
//	                         100 items, as {"encode_us": N, "decode_us": N}
//	gob -corpus DIRECTORY    writes a file for each value, and one for each kind, as seeds for a fuzzer
//
// Requests, and what answers them; package gobjson says what types T and values V look like:
//
//	{"op": "encode", "type": T, "values": [V, ...]}   {"ok": true, "hex": [H, ...]}
//	    The values as one encoder writes them, one after another.
//	{"op": "decode", "type": T, "hex": H}             {"ok": true, "values": [V, ...]}
//	    All values of a stream. After an error: {"ok": false, "error": E, "values": [...]} with
//	    those before it.
//
// Both may have "register": [[NAME, T], ...], the names of types in interface values. They stay
// registered: a name belongs to one type and a type to one name as long as the program runs. Types
// of values to encode that have no name get the one that gob.Register gives them. The program registers
// those that package gobtypes has by itself.
//
// A request that cannot be met is answered with {"ok": false, "error": E}.
package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"pygo-plugin.example/peers/internal/gobjson"
	"pygo-plugin.example/peers/internal/gobtypes"
)

type request struct {
	Op       string               `json:"op"`
	Type     json.RawMessage      `json:"type"`
	Values   []json.RawMessage    `json:"values"`
	Hex      string               `json:"hex"`
	Register [][2]json.RawMessage `json:"register"`
}

type reply map[string]any

func main() {
	samples := flag.Bool("samples", false, "print the samples")
	corpus := flag.String("corpus", "", "write the samples into this `directory`")
	duration := flag.Duration("time", 0, "measure for this `time`")
	flag.Parse()
	var err error
	switch {
	case *samples:
		err = printSamples(os.Stdout)
	case *duration > 0:
		err = measure(os.Stdout, *duration)
	case *corpus != "":
		err = writeCorpus(*corpus)
	default:
		err = serve(os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gob:", err)
		os.Exit(1)
	}
}

// serve answers requests until the input ends.
func serve(input io.Reader, output io.Writer) error {
	requests := json.NewDecoder(bufio.NewReader(input))
	replies := json.NewEncoder(output)
	for {
		var r request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		answer, err := r.answer()
		if answer == nil {
			answer = reply{}
		}
		answer["ok"] = err == nil
		if err != nil {
			answer["error"] = err.Error()
		}
		if err := replies.Encode(answer); err != nil {
			return err
		}
	}
}

func (r *request) answer() (reply, error) {
	for _, pair := range r.Register {
		var name string
		if err := json.Unmarshal(pair[0], &name); err != nil {
			return nil, err
		}
		t, err := gobjson.Type(pair[1])
		if err != nil {
			return nil, err
		}
		if err := gobjson.RegisterName(name, t); err != nil {
			return nil, err
		}
	}
	switch r.Op {
	case "encode":
		return r.encode()
	case "decode":
		return r.decode()
	default:
		return nil, fmt.Errorf("unknown op %q", r.Op)
	}
}

func (r *request) encode() (reply, error) {
	t, err := gobjson.Type(r.Type)
	if err != nil {
		return nil, err
	}
	var values []any
	for _, raw := range r.Values {
		value, err := gobjson.New(t, raw)
		if err != nil {
			return nil, err
		}
		values = append(values, value.Interface())
	}
	parts, err := encodeAll(values)
	return reply{"hex": parts}, err
}

// encodeAll encodes what the values point to, in one stream.
func encodeAll(values []any) ([]string, error) {
	parts := []string{}
	var buffer bytes.Buffer
	encoder := gob.NewEncoder(&buffer)
	for _, value := range values {
		if err := encoder.Encode(value); err != nil {
			return parts, err
		}
		parts = append(parts, hex.EncodeToString(buffer.Bytes()))
		buffer.Reset()
	}
	return parts, nil
}

func (r *request) decode() (reply, error) {
	t, err := gobjson.Type(r.Type)
	if err != nil {
		return nil, err
	}
	data, err := hex.DecodeString(r.Hex)
	if err != nil {
		return nil, err
	}
	values := []any{}
	decoder := gob.NewDecoder(bytes.NewReader(data))
	for {
		value := reflect.New(t)
		if err := decoder.Decode(value.Interface()); errors.Is(err, io.EOF) {
			return reply{"values": values}, nil
		} else if err != nil {
			return reply{"values": values}, err
		}
		values = append(values, gobjson.Show(value.Elem()))
	}
}

func printSamples(output io.Writer) error {
	lines := json.NewEncoder(output)
	for _, sample := range gobtypes.Samples() {
		parts, err := encodeAll(sample.Values)
		if err != nil {
			return fmt.Errorf("%s: %w", sample.Kind, err)
		}
		stream := ""
		values := []any{}
		for i, value := range sample.Values {
			stream += parts[i]
			values = append(values, gobjson.Show(reflect.ValueOf(value).Elem()))
		}
		line := reply{
			"kind":   sample.Kind,
			"type":   gobjson.Describe(reflect.TypeOf(sample.Values[0]).Elem()),
			"values": values,
			"hex":    stream,
		}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func writeCorpus(directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	write := func(name string, values []any) error {
		parts, err := encodeAll(values)
		var data []byte
		for _, part := range parts {
			piece, _ := hex.DecodeString(part)
			data = append(data, piece...)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(directory, name), data, 0o644)
		}
		return err
	}
	for _, sample := range gobtypes.Samples() {
		if err := write(sample.Kind, sample.Values); err != nil {
			return fmt.Errorf("%s: %w", sample.Kind, err)
		}
		if len(sample.Values) == 1 {
			continue
		}
		for i, value := range sample.Values {
			if err := write(fmt.Sprintf("%s-%d", sample.Kind, i), []any{value}); err != nil {
				return fmt.Errorf("%s: %w", sample.Kind, err)
			}
		}
	}
	return nil
}
