package main

import (
	"fmt"
	"time"
)

// outputRequest may name a text to wait for. It is an error when the text does
// not arrive in time, which is 10 s by default.
type outputRequest struct {
	Until     string `json:"until"`
	TimeoutMS int    `json:"timeout_ms"`
}

func (r outputRequest) wait(found func(text string) bool) error {
	if r.Until == "" {
		return nil
	}
	timeout := 10 * time.Second
	if r.TimeoutMS > 0 {
		timeout = time.Duration(r.TimeoutMS) * time.Millisecond
	}
	if !waitUntil(timeout, func() bool { return found(r.Until) }) {
		return fmt.Errorf("%q did not arrive within %s", r.Until, timeout)
	}
	return nil
}

// logs returns the log records, and the plugin's stderr as it is, since the last call.
// A wait that fails takes nothing.
func logs(c *client, request outputRequest) (reply, error) {
	if err := request.wait(c.logs.contains); err != nil {
		return nil, err
	}
	stderr := c.stderr.take()
	return reply{
		"records":    c.logs.take(),
		"stderr":     string(stderr),
		"stderr_b64": nonNil(stderr),
	}, nil
}

// stdio returns what the plugin printed since the last call.
// A wait that fails takes nothing.
func stdio(c *client, request outputRequest) (reply, error) {
	err := request.wait(func(text string) bool {
		return c.syncStdout.contains(text) || c.syncStderr.contains(text)
	})
	if err != nil {
		return nil, err
	}
	stdout, stderr := c.syncStdout.take(), c.syncStderr.take()
	return reply{
		"stdout":     string(stdout),
		"stdout_b64": nonNil(stdout),
		"stderr":     string(stderr),
		"stderr_b64": nonNil(stderr),
	}, nil
}

// nonNil makes JSON say "" rather than null.
func nonNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
