// Command badrpc is a net/rpc plugin that misbehaves. Hosts must survive each of its modes, and say
// what was wrong.
//
// But for what its mode says, it answers Control.Ping, Control.Quit, Dispenser.Dispense of any name,
// and two methods of what it dispenses: Plugin.Echo(bytes) and Plugin.CallBack, as package
// rpcpeer has them. Modes of calls spoil the answer to Ping, or to Echo with -at plugin.
//
// It ends with its parent, and in any case after -lifetime, so that no test leaves a process behind.
package main

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"pygo-plugin.example/peers/internal/peer"
	"pygo-plugin.example/peers/internal/rpcpeer"
)

// bad is the plugin. Each hook is nil where it does nothing wrong.
type bad struct {
	at string

	connection func(conn net.Conn)             // instead of TLS and yamux
	secured    func(conn net.Conn)             // instead of yamux
	session    func(session *yamux.Session)    // instead of serving streams
	beside     func(session *yamux.Session)    // while serving streams
	dispensed  func(conn net.Conn, id [4]byte) // instead of the ack
	spoil      func(c *call)                   // instead of the answer
	output     func(stdout net.Conn)
	calledBack func(session *yamux.Session, arguments rpcpeer.CallBackArgs) error // instead of callOnce
	stubborn   bool
	quit       func(c *call) // instead of the answer and the end
}

func main() {
	mode := flag.String("mode", "", "what to do:\n"+describeModes())
	at := flag.String("at", "control", "`where` calls are spoilt: control or plugin")
	lifetime := flag.Duration("lifetime", time.Minute, "exit after this `time` at the latest")
	flag.Parse()
	chosen, ok := modes[*mode]
	if !ok {
		fmt.Fprintf(os.Stderr, "badrpc: unknown mode %q\n", *mode)
		os.Exit(2)
	}
	go exitWithParent(*lifetime)
	b := chosen.bad
	b.at = *at
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "badrpc:", err)
		os.Exit(2)
	}
}

func exitWithParent(lifetime time.Duration) {
	parent := os.Getppid()
	for end := time.Now().Add(lifetime); time.Now().Before(end) && os.Getppid() == parent; {
		time.Sleep(50 * time.Millisecond)
	}
	os.Exit(3)
}

func describeModes() string {
	var lines []string
	for name, mode := range modes {
		lines = append(lines, name+": "+mode.help)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// run serves on a unix socket, with AutoMTLS if the host wants it.
func (b *bad) run() error {
	if b.stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	directory, err := os.MkdirTemp("", "plugin-bad")
	if err != nil {
		return err
	}
	path := filepath.Join(directory, "plugin")
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	var config *tls.Config
	certificate := ""
	if hostPEM := os.Getenv("PLUGIN_CLIENT_CERT"); hostPEM != "" {
		if config, err = peer.MutualTLS([]byte(hostPEM)); err != nil {
			return err
		}
		certificate = base64.RawStdEncoding.EncodeToString(config.Certificates[0].Certificate[0])
	}
	fmt.Printf("1|1|unix|%s|netrpc|%s\n", path, certificate)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		// The host has what it needs of the file. Removing it keeps modes that are killed tidy.
		os.RemoveAll(directory)
		go b.serve(conn, config)
	}
}

func (b *bad) serve(conn net.Conn, config *tls.Config) {
	if b.connection != nil {
		b.connection(conn)
		return
	}
	if config != nil {
		conn = tls.Server(conn, config)
	}
	if b.secured != nil {
		b.secured(conn)
		return
	}
	session, err := yamux.Server(conn, nil)
	if err != nil {
		complain(err)
		return
	}
	if b.session != nil {
		b.session(session)
		return
	}
	var streams [3]net.Conn
	for i := range streams {
		if streams[i], err = session.Accept(); err != nil {
			complain(err)
			return
		}
	}
	if b.output != nil {
		go b.output(streams[1])
	}
	if b.beside != nil {
		go b.beside(session)
	}
	go b.answerAll(session, streams[0], "control")
	for {
		conn, err := session.Accept()
		if err != nil {
			return
		}
		go b.serveBrokered(session, conn)
	}
}

// serveBrokered takes every id for one that was dispensed.
func (b *bad) serveBrokered(session *yamux.Session, conn net.Conn) {
	var id [4]byte
	if _, err := conn.Read(id[:]); err != nil {
		return
	}
	if b.dispensed != nil {
		b.dispensed(conn, id)
		return
	}
	if _, err := conn.Write(id[:]); err == nil {
		b.answerAll(session, conn, "plugin")
	}
}

func complain(err error) {
	if !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "badrpc:", err)
	}
}
