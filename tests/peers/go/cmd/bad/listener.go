package main

import (
	"net"
	"sync"
)

// trackingListener remembers its connections, to drop them without a good-bye.
type trackingListener struct {
	net.Listener
	connected chan struct{} // Closed when the first connection arrives.
	mu        sync.Mutex
	conns     []net.Conn
}

func newTrackingListener(inner net.Listener) *trackingListener {
	return &trackingListener{Listener: inner, connected: make(chan struct{})}
}

// Accept is called by one goroutine only, that of the gRPC server.
func (l *trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	if len(l.conns) == 1 {
		close(l.connected)
	}
	return conn, nil
}

func (l *trackingListener) dropConnections() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
}
