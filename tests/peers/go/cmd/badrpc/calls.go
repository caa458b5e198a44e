package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"sync/atomic"

	"github.com/hashicorp/yamux"

	"pygo-plugin.example/peers/internal/rpcpeer"
)

// call is a request and the stream to answer it on.
type call struct {
	rpc.Request
	conn    net.Conn
	encoder *gob.Encoder
	buffer  *bufio.Writer
	reply   any // what a good plugin would answer
}

// answer answers as net/rpc does.
func (c *call) answer() { c.respond(c.Seq, c.reply) }

// respond answers with another Seq or reply.
func (c *call) respond(seq uint64, reply any) {
	c.encode(&rpc.Response{ServiceMethod: c.ServiceMethod, Seq: seq}, reply)
}

func (c *call) encode(values ...any) {
	for _, value := range values {
		if err := c.encoder.Encode(value); err != nil {
			complain(err)
		}
	}
	if err := c.buffer.Flush(); err != nil {
		complain(err)
	}
}

// write sends bytes as they are.
func (c *call) write(data []byte) {
	if _, err := c.conn.Write(data); err != nil {
		complain(err)
	}
}

var lastID atomic.Uint32

// answerAll answers the requests of one stream, one after another.
func (b *bad) answerAll(session *yamux.Session, conn net.Conn, at string) {
	buffer := bufio.NewWriter(conn)
	decoder, encoder := gob.NewDecoder(conn), gob.NewEncoder(buffer)
	for {
		c := &call{conn: conn, encoder: encoder, buffer: buffer}
		if err := decoder.Decode(&c.Request); err != nil {
			return
		}
		spoilt := false
		var err error
		switch c.ServiceMethod {
		case "Control.Ping", "Control.Quit":
			var null bool
			err = decoder.Decode(&null)
			c.reply = struct{}{}
			spoilt = at == b.at && c.ServiceMethod == "Control.Ping"
		case "Dispenser.Dispense":
			var name string
			err = decoder.Decode(&name)
			c.reply = lastID.Add(1)
		case "Plugin.Echo":
			var payload []byte
			err = decoder.Decode(&payload)
			c.reply = payload
			spoilt = at == b.at
		case "Plugin.CallBack":
			var arguments rpcpeer.CallBackArgs
			if err = decoder.Decode(&arguments); err == nil {
				b.callBack(session, c, arguments)
				continue
			}
		default:
			err = fmt.Errorf("no method %s", c.ServiceMethod)
		}
		if err != nil {
			complain(err)
			return
		}
		switch {
		case spoilt && b.spoil != nil:
			b.spoil(c)
		case c.ServiceMethod == "Control.Quit" && b.quit != nil:
			b.quit(c)
		default:
			c.answer()
			if c.ServiceMethod == "Control.Quit" {
				os.Exit(0)
			}
		}
	}
}

// callBack calls Echo of what the host serves under an id.
func (b *bad) callBack(session *yamux.Session, c *call, arguments rpcpeer.CallBackArgs) {
	use := b.calledBack
	if use == nil {
		use = callOnce
	}
	if err := use(session, arguments); err != nil {
		c.encode(&rpc.Response{ServiceMethod: c.ServiceMethod, Seq: c.Seq, Error: err.Error()}, struct{}{})
		return
	}
	c.reply = arguments.Payload
	c.answer()
}

func callOnce(session *yamux.Session, arguments rpcpeer.CallBackArgs) error {
	conn, err := dial(session, arguments.ID)
	if err != nil {
		return err
	}
	client := rpc.NewClient(conn)
	defer client.Close()
	var answer []byte
	if err := client.Call("Plugin.Echo", arguments.Payload, &answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, arguments.Payload) {
		return fmt.Errorf("Echo answered %q", answer)
	}
	return nil
}

// dial does what MuxBroker's Dial does.
func dial(session *yamux.Session, id uint32) (net.Conn, error) {
	conn, err := session.Open()
	if err != nil {
		return nil, err
	}
	if err := binary.Write(conn, binary.LittleEndian, id); err != nil {
		return nil, err
	}
	var ack uint32
	if err := binary.Read(conn, binary.LittleEndian, &ack); err != nil {
		conn.Close()
		return nil, fmt.Errorf("no ack: %w", err)
	}
	if ack != id {
		return nil, fmt.Errorf("ack of %d for %d", ack, id)
	}
	return conn, nil
}
