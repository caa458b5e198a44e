package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// kinds are the lines that a host's log mirroring has to cope with.
var kinds = map[string][]byte{
	"hclog": []byte(`{"@level":"trace","@message":"a trace","@timestamp":"2024-05-06T07:08:09.123456Z"}
{"@level":"debug","@message":"a debug","@timestamp":"2024-05-06T07:08:09.123456+02:00"}
{"@level":"info","@message":"an info","@module":"peer.sub","@timestamp":"2024-05-06T07:08:09.123456Z","answer":42,"nested":{"a":[1,null,true]},"text":"ünïcode"}
{"@level":"warn","@message":"a warning","@timestamp":"2024-05-06T07:08:09.123456Z"}
{"@level":"error","@message":"an error","@timestamp":"2024-05-06T07:08:09.123456Z","error":"it broke"}
`),
	"json": []byte(`{"@level":"shout","@message":"unknown level"}
{"no":"level"}
{"@level":"info","@message":"broken"
[1,2,3]
"text"
null
`),
	"prefix": []byte("[TRACE] t\n[DEBUG] d\n[INFO] i\n[WARN] w\n[ERROR] e\nno prefix\n[OTHER] o\n"),
	"panic": []byte("panic: something broke\n\ngoroutine 1 [running]:\nmain.main()\n" +
		"[INFO] tagged all the same\n\t/src/main.go:3 +0x1d\nexit status 2\n"),
	"fatal":        []byte("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\n"),
	"traceback":    []byte("Traceback (most recent call last):\n  File \"p.py\", line 1, in <module>\nValueError: bad\n"),
	"invalid-utf8": []byte("latin-1 \xe9\xe8 and a stray \xff\n{\"@level\":\"info\",\"@message\":\"bad \xff byte\"}\n"),
	"nul":          []byte("a\x00b\r\n"),
	"empty":        []byte("\n\n"),
	"long":         append(bytes.Repeat([]byte("0123456789abcdef"), 1<<16), '\n'),
	"long-hclog": append(append([]byte(`{"@level":"warn","@message":"`),
		bytes.Repeat([]byte{'m'}, 1<<20)...), "\"}\n"...),
	"odd-types": []byte(`{"@level":7,"@message":["not","text"],"@timestamp":"yesterday"}
{"@level":"info","@message":"no such time","@timestamp":"2024-13-45T99:99:99.000000Z"}
`),
	"unfinished": []byte("no newline at the end"),
}

// dangerous kinds have to be asked for by name: a Go host panics on odd-types,
// and unfinished must come last.
var dangerous = []string{"odd-types", "unfinished"}

// lineKinds returns the kinds that are written by default.
func lineKinds() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(kind string) bool {
		return slices.Contains(dangerous, kind)
	})
}

func stderrLines(o *options) error {
	if err := writeLines(o); err != nil {
		return err
	}
	if !o.serve {
		return nil
	}
	server, err := startServer(printAtOnce)
	if err != nil {
		return err
	}
	<-server.stopped
	return nil
}

func writeLines(o *options) error {
	if o.file != "" {
		content, err := os.ReadFile(o.file)
		if err == nil {
			_, err = os.Stderr.Write(content)
		}
		return err
	}
	for _, kind := range strings.Split(o.kinds, ",") {
		lines, ok := kinds[kind]
		if !ok {
			return fmt.Errorf("unknown kind %q of line", kind)
		}
		if _, err := os.Stderr.Write(lines); err != nil {
			return err
		}
	}
	return nil
}
