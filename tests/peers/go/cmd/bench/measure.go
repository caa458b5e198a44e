package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"pygo-plugin.example/peers/probepb"
)

// Calls before the clock starts: warmup for each thread, mostWarmup for all of
// them together. Calls that are called back take longer.
const (
	warmup         = 200
	mostWarmup     = 1000
	callBackWarmup = 20
)

// summary describes a set of durations in one unit.
type summary struct {
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize sorts the durations, of which there is at least one.
func summarize(durations []time.Duration, unit time.Duration) summary {
	slices.Sort(durations)
	at := func(quantile float64) float64 {
		return float64(durations[int(quantile*float64(len(durations)-1))]) / float64(unit)
	}
	return summary{Median: at(0.5), P90: at(0.9), P99: at(0.99), Min: at(0), Max: at(1)}
}

type callResult struct {
	Calls     int     `json:"calls"`
	Size      int     `json:"size"`
	Threads   int     `json:"threads"`
	Latency   summary `json:"latency_us"`
	PerSecond float64 `json:"per_second"`
	HostCPU   float64 `json:"host_cpu_us_per_call"`
}

// calls measures unary calls over one connection.
func (b *bench) calls(want wanted) (*callResult, error) {
	client := b.newClient(io.Discard)
	defer client.Kill()
	found, err := b.subject(client)
	if err != nil {
		return nil, err
	}
	payload, threads := make([]byte, want.size), want.threads
	call := func() error { return found.echo(payload) }
	before := min(warmup*threads, mostWarmup)
	switch {
	case want.callBack:
		call = func() error { return found.callBack(payload) }
		before = callBackWarmup
	case want.order:
		call = found.order
	}
	for range before {
		if err := call(); err != nil {
			return nil, err
		}
	}

	perThread := max(want.calls/threads, 1)
	durations := make([][]time.Duration, threads)
	errs := make([]error, threads)
	cpu, begin := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for i := range threads {
		durations[i] = make([]time.Duration, 0, perThread)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range perThread {
				begin := time.Now()
				if errs[i] = call(); errs[i] != nil {
					return
				}
				durations[i] = append(durations[i], time.Since(begin))
			}
		}()
	}
	wg.Wait()
	elapsed, cpu := time.Since(begin), cpuTime()-cpu
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	made := perThread * threads
	return &callResult{
		Calls:     made,
		Size:      want.size,
		Threads:   threads,
		Latency:   summarize(slices.Concat(durations...), time.Microsecond),
		PerSecond: float64(made) / elapsed.Seconds(),
		HostCPU:   float64(cpu.Microseconds()) / float64(made),
	}, nil
}

// cpuTime is what the host process has used so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type launchResult struct {
	Launches   int     `json:"launches"`
	FirstReply summary `json:"first_reply_ms"`
	Kill       summary `json:"kill_ms"`
}

// launches measures from before the launch to the first reply, and the kill.
func (b *bench) launches(count int) (*launchResult, error) {
	var replies, kills []time.Duration
	for range count {
		reply, kill, err := b.launch()
		if err != nil {
			return nil, err
		}
		replies, kills = append(replies, reply), append(kills, kill)
	}
	return &launchResult{
		Launches:   count,
		FirstReply: summarize(replies, time.Millisecond),
		Kill:       summarize(kills, time.Millisecond),
	}, nil
}

func (b *bench) launch() (reply, kill time.Duration, err error) {
	client := b.newClient(io.Discard)
	defer client.Kill()
	begin := time.Now()
	found, err := b.subject(client)
	if err != nil {
		return 0, 0, err
	}
	if err := found.echo(nil); err != nil {
		return 0, 0, err
	}
	reply = time.Since(begin)
	begin = time.Now()
	client.Kill()
	return reply, time.Since(begin), nil
}

type logResult struct {
	Lines     int     `json:"lines"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	HostCPU   float64 `json:"host_cpu_us_per_line"`
}

// lastLine ends a run of log lines.
const lastLine = "the last line of the benchmark"

// logLines measures until the host has logged the last line.
func (b *bench) logLines(lines int) (*logResult, error) {
	sink := &logSink{done: make(chan struct{})}
	client := b.newClient(sink)
	defer client.Kill()
	stub, err := probe(client)
	if err != nil {
		return nil, err
	}
	entry := func(text string) *probepb.Line {
		return &probepb.Line{
			Channel: probepb.Line_LOG,
			Text:    []byte(text),
			Level:   "info",
			Fields:  map[string]string{"component": "bench", "request": "0123456789abcdef"},
		}
	}
	cpu, begin := cpuTime(), time.Now()
	requests := []*probepb.PrintRequest{
		{Lines: []*probepb.Line{entry("an ordinary line of the benchmark")}, Repeat: int32(lines - 1)},
		{Lines: []*probepb.Line{entry(lastLine)}},
	}
	if lines == 1 {
		requests = requests[1:]
	}
	for _, request := range requests {
		if _, err := stub.Print(context.Background(), request); err != nil {
			return nil, err
		}
	}
	select {
	case <-sink.done:
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("the last of %d lines did not arrive", lines)
	}
	elapsed := time.Since(begin)
	return &logResult{
		Lines:     lines,
		Seconds:   elapsed.Seconds(),
		PerSecond: float64(lines) / elapsed.Seconds(),
		HostCPU:   float64((cpuTime() - cpu).Microseconds()) / float64(lines),
	}, nil
}

// logSink discards what it gets until the last line, which closes done.
type logSink struct {
	once sync.Once
	done chan struct{}
}

func (s *logSink) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(lastLine)) {
		s.once.Do(func() { close(s.done) })
	}
	return len(p), nil
}
