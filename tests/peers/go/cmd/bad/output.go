package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"pygo-plugin.example/peers/internal/die"
)

func exit(o *options) error {
	_, err := os.Stderr.WriteString(o.stderr)
	return err
}

func kill(o *options) error {
	if _, err := os.Stderr.WriteString(o.stderr); err != nil {
		return err
	}
	return die.Of(syscall.Signal(o.signal))
}

func silent(*options) error {
	hold()
	return nil
}

func noNewline(o *options) error {
	return printAndHold([]byte(o.line))
}

func printLine(o *options) error {
	return printAndHold([]byte(o.line + "\n"))
}

func longLine(o *options) error {
	return printAndHold(bytes.Repeat([]byte{'x'}, o.mebibyte<<20))
}

func binary(*options) error {
	var all []byte
	for value := 255; value >= 0; value-- {
		all = append(all, byte(value))
	}
	return printAndHold(all)
}

func printAndHold(data []byte) error {
	if _, err := os.Stdout.Write(data); err != nil {
		return err
	}
	hold()
	return nil
}

func closeStdout(*options) error {
	if err := os.Stdout.Close(); err != nil {
		return err
	}
	hold()
	return nil
}

func floodStderr(o *options) error {
	if o.serve {
		return serveAndFlood(os.Stderr)
	}
	return flood(os.Stderr)
}

func floodStdout(*options) error {
	return serveAndFlood(os.Stdout)
}

// serveAndFlood writes without end, but exits when the host shuts it down.
func serveAndFlood(file *os.File) error {
	server, err := startServer(printAtOnce)
	if err != nil {
		return err
	}
	go flood(file)
	<-server.stopped
	return nil
}

// flood writes until the pipe is closed.
func flood(file *os.File) error {
	line := append(bytes.Repeat([]byte("flood "), 20), '\n')
	block := bytes.Repeat(line, 100)
	for {
		if _, err := file.Write(block); errors.Is(err, syscall.EPIPE) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// orphanPipe starts a child that inherits stdout and stderr, and dies.
func orphanPipe(o *options) error {
	if o.serve {
		if _, err := startServer(printAtOnce); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "-mode", "orphan", "-watch", strconv.Itoa(o.watch), "-lifetime", o.lifetime.String())
	child.Stdout = os.Stdout
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stderr, "orphan pid %d\n", child.Process.Pid)
	return err
}

// orphan outlives its parent, hence watches another process.
func orphan(o *options) error {
	exitWithProcess(o.watch, o.lifetime)
	return nil
}
