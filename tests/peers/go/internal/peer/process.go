package peer

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/mattn/go-isatty"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pygo-plugin.example/peers/probepb"
)

func (s *probe) Print(ctx context.Context, req *probepb.PrintRequest) (*probepb.PrintReply, error) {
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	for range max(req.Repeat, 1) {
		for _, line := range req.Lines {
			if err := s.print(line); err != nil {
				return nil, status.Error(codes.Internal, err.Error())
			}
		}
	}
	return &probepb.PrintReply{}, nil
}

func (s *probe) print(line *probepb.Line) error {
	if line.Channel == probepb.Line_LOG {
		s.log(line)
		return nil
	}
	// The streams are looked up each time: go-plugin replaces them.
	file, fd := os.Stdout, syscall.Stdout
	if line.Channel == probepb.Line_STDERR {
		file, fd = os.Stderr, syscall.Stderr
	}
	if !line.Raw {
		_, err := file.Write(line.Text)
		return err
	}
	for rest := line.Text; len(rest) > 0; {
		n, err := syscall.Write(fd, rest)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (s *probe) log(line *probepb.Line) {
	level := hclog.LevelFromString(line.Level)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	var fields []any
	for key, value := range line.Fields {
		fields = append(fields, key, value)
	}
	s.logger.Log(level, string(line.Text), fields...)
}

func (s *probe) Environ(ctx context.Context, _ *probepb.EnvironRequest) (*probepb.EnvironReply, error) {
	if _, err := answerMetadata(ctx); err != nil {
		return nil, err
	}
	reply := &probepb.EnvironReply{
		Environ:    make(map[string][]byte),
		Fds:        make(map[int32][]byte),
		Pid:        int32(os.Getpid()),
		Ppid:       int32(os.Getppid()),
		Pgid:       int32(syscall.Getpgrp()),
		StdinIsTty: isatty.IsTerminal(uintptr(syscall.Stdin)),
		Version:    int32(s.version),

		SignalsBlocked: signals.SignalsBlocked,
		SignalsIgnored: signals.SignalsIgnored,
		SignalsCaught:  signals.SignalsCaught,
	}
	for _, entry := range os.Environ() {
		key, value, _ := strings.Cut(entry, "=")
		reply.Environ[strings.ToValidUTF8(key, "\ufffd")] = []byte(value)
	}
	for _, arg := range os.Args {
		reply.Argv = append(reply.Argv, []byte(arg))
	}
	cwd, err := os.Getwd()
	if err == nil {
		reply.Cwd = []byte(cwd)
		err = readFDs(reply.Fds)
	}
	if err == nil {
		err = signalsErr
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return reply, nil
}

// readFDs lists this process's file descriptors, but for the one used to do so.
func readFDs(fds map[int32][]byte) error {
	const dir = "/proc/self/fd"
	own := fmt.Sprintf("/proc/%d/fd", os.Getpid())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.ParseInt(entry.Name(), 10, 32)
		if err != nil {
			return err
		}
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil || target == own {
			continue // Closed since it was listed.
		}
		fds[int32(fd)] = []byte(target)
	}
	return nil
}

// signals are the masks as they were at the start: later on, Go's main thread
// is one of many, and may well block everything.
var signals, signalsErr = readSignals()

// readSignals reads the signal masks of the process's main thread.
func readSignals() (*probepb.EnvironReply, error) {
	reply := &probepb.EnvironReply{}
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	masks := map[string]*uint64{
		"SigBlk": &reply.SignalsBlocked,
		"SigIgn": &reply.SignalsIgnored,
		"SigCgt": &reply.SignalsCaught,
	}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		key, value, _ := strings.Cut(scanner.Text(), ":")
		if mask, ok := masks[key]; ok {
			if *mask, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
				return nil, err
			}
		}
	}
	return reply, scanner.Err()
}
