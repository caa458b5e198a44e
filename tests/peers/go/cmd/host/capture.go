package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// capture is a writer that keeps what is written until it is taken. It may be
// used from any goroutine.
type capture struct {
	mu  sync.Mutex
	buf []byte
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// contains says whether the text arrived since the last take.
func (c *capture) contains(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.buf, []byte(text))
}

// take returns what arrived since the last take.
func (c *capture) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.buf
	c.buf = nil
	return taken
}

// record is one log entry, go-plugin's own or one that it mirrors.
type record struct {
	Level   string         `json:"level"`
	Message string         `json:"message"`
	Name    string         `json:"name"`
	Fields  map[string]any `json:"fields"`
}

// logCapture is an hclog sink that keeps records until they are taken. It may be
// used from any goroutine.
type logCapture struct {
	mu      sync.Mutex
	records []record
	forced  bool
}

// Accept is called by hclog for each entry.
func (c *logCapture) Accept(name string, level hclog.Level, msg string, args ...any) {
	entry := record{Level: level.String(), Message: msg, Name: name, Fields: make(map[string]any)}
	for i := 0; i+1 < len(args); i += 2 {
		entry.Fields[fmt.Sprint(args[i])] = jsonValue(args[i+1])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records = append(c.records, entry)
	// go-plugin tells in no other way that it had to use force.
	c.forced = c.forced || msg == "plugin failed to exit gracefully"
}

// contains says whether a record with this text in its message arrived since
// the last take.
func (c *logCapture) contains(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, entry := range c.records {
		if strings.Contains(entry.Message, text) {
			return true
		}
	}
	return false
}

// take returns the records that arrived since the last take.
func (c *logCapture) take() []record {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.records
	c.records = nil
	if taken == nil {
		taken = []record{}
	}
	return taken
}

// wasForced says whether the plugin was killed rather than shut down.
func (c *logCapture) wasForced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forced
}

// jsonValue leaves alone what JSON can express and makes text of the rest.
func jsonValue(value any) any {
	switch value := value.(type) {
	case nil, bool, string, float64, int, map[string]any, []any:
		return value
	default:
		return fmt.Sprint(value)
	}
}

// waitUntil polls a condition. It returns false when the time is over.
func waitUntil(timeout time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
