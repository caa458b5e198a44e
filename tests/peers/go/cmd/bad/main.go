// Command bad is a plugin that misbehaves. Hosts must survive each of its modes,
// and say what was wrong.
//
// Modes that wait end when the parent process dies, and in any case after
// -lifetime, so that no test leaves a process behind.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// options are the flags, all optional but -mode. Each mode names those it uses.
type options struct {
	mode     string
	status   int
	signal   int
	stderr   string
	line     string
	mebibyte int
	interval time.Duration
	kinds    string
	file     string
	serve    bool
	watch    int
	lifetime time.Duration
}

// modes are functions that do their harm and return when the process should
// exit with the status of -status. Those that wait call hold.
var modes = map[string]struct {
	run  func(o *options) error
	help string
}{
	"exit":                         {exit, "write -stderr, then exit with -status"},
	"signal":                       {kill, "write -stderr, then die of -signal"},
	"serve":                        {serveOnly, "serve, and do nothing wrong"},
	"exit-after-line":              {exitAfterLine, "exit with -status right after the handshake"},
	"exit-on-connect":              {exitOnConnect, "exit with -status when a host connects"},
	"symlink":                      {symlink, "serve, and name a symbolic link to the socket in the handshake"},
	"endless-log":                  {endlessLog, "write a line of -mib MiB to stderr, then exit; -serve: after a handshake"},
	"flood-stdio":                  {floodStdio, "serve -mib MiB of output and rubbish through GRPCStdio"},
	"silent":                       {silent, "wait and print nothing"},
	"nonewline":                    {noNewline, "print -line without its newline, then wait"},
	"line":                         {printLine, "print -line, then wait"},
	"longline":                     {longLine, "print a line of -mib MiB without a newline, then wait"},
	"binary":                       {binary, "print every byte value, newlines among them, then wait"},
	"slowline":                     {slowLine, "serve, with a byte of the handshake each -interval"},
	"wrongcore":                    {wrongCore, "print a handshake line with a core protocol version of 2, then wait"},
	"close-stdout":                 {closeStdout, "close stdout without a handshake, then wait"},
	"close-stdio":                  {closeStdio, "serve, and close stdout and stderr after the handshake"},
	"floodstderr":                  {floodStderr, "write to stderr without end; -serve: after a handshake"},
	"floodstdout-after-handshake":  {floodStdout, "serve, and write to stdout without end"},
	"stderr-lines":                 {stderrLines, "write the lines of -kinds or -file to stderr, then exit; -serve: then serve"},
	"orphan-pipe":                  {orphanPipe, "die, and leave behind a child that holds stdout and stderr until -watch dies; -serve: after a handshake"},
	"orphan":                       {orphan, "the child of orphan-pipe"},
	"ignore-shutdown":              {ignoreShutdown, "serve, answer Shutdown but go on; ignore SIGTERM"},
	"hang-shutdown":                {hangShutdown, "serve, never answer Shutdown; ignore SIGTERM"},
	"drop-on-shutdown":             {dropOnShutdown, "serve, close the connection in the middle of Shutdown, then exit with -status"},
	"drop-on-shutdown-and-survive": {dropAndSurvive, "the same, but go on living"},
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "", "what to do:\n"+describeModes())
	flag.IntVar(&o.status, "status", 0, "exit `status`")
	flag.IntVar(&o.signal, "signal", 9, "signal `number`")
	flag.StringVar(&o.stderr, "stderr", "", "`text` for stderr, as it is")
	flag.StringVar(&o.line, "line", "1|1|unix|/nowhere/pygo", "`text` for stdout")
	flag.IntVar(&o.mebibyte, "mib", 4, "size of the long line in `MiB`")
	flag.DurationVar(&o.interval, "interval", 20*time.Millisecond, "`time` between bytes")
	flag.StringVar(&o.kinds, "kinds", strings.Join(lineKinds(), ","), "comma-separated `kinds` of lines")
	flag.StringVar(&o.file, "file", "", "take the lines from this `file` instead")
	flag.BoolVar(&o.serve, "serve", false, "serve as a plugin should, besides")
	flag.IntVar(&o.watch, "watch", os.Getppid(), "process that the child of orphan-pipe watches, by `pid`")
	flag.DurationVar(&o.lifetime, "lifetime", time.Minute, "exit after this `time` at the latest")
	flag.Parse()

	mode, ok := modes[o.mode]
	if !ok {
		fmt.Fprintf(os.Stderr, "bad: unknown mode %q\n", o.mode)
		os.Exit(2)
	}
	if o.mode != "orphan" {
		go exitWithParent(o.lifetime)
	}
	if err := mode.run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bad:", err)
		os.Exit(2)
	}
	os.Exit(o.status)
}

func describeModes() string {
	var lines []string
	for name, mode := range modes {
		lines = append(lines, name+": "+mode.help)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
