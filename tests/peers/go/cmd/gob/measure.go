package main

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"io"
	"slices"
	"time"

	"pygo-plugin.example/peers/internal/gobtypes"
)

// batch is how many values are encoded or decoded between two looks at the clock. They make up a
// stream, whose type definitions come once.
const batch = 20

// measure prints the median times of one value. Half of the time is for encoding.
func measure(output io.Writer, duration time.Duration) error {
	order := gobtypes.NewOrder(100)
	var stream bytes.Buffer
	encode := func() error {
		stream.Reset()
		encoder := gob.NewEncoder(&stream)
		for range batch {
			if err := encoder.Encode(&order); err != nil {
				return err
			}
		}
		return nil
	}
	decode := func() error {
		decoder := gob.NewDecoder(bytes.NewReader(stream.Bytes()))
		for range batch {
			var decoded gobtypes.Order
			if err := decoder.Decode(&decoded); err != nil {
				return err
			}
		}
		return nil
	}
	results := make(map[string]float64)
	for name, run := range map[string]func() error{"encode_us": encode, "decode_us": decode} {
		// Decoding has a stream to decode.
		if err := encode(); err != nil {
			return err
		}
		var times []time.Duration
		for begin := time.Now(); time.Since(begin) < duration/2; {
			before := time.Now()
			if err := run(); err != nil {
				return err
			}
			times = append(times, time.Since(before))
		}
		slices.Sort(times)
		results[name] = float64(times[len(times)/2]) / float64(time.Microsecond) / batch
	}
	return json.NewEncoder(output).Encode(results)
}
