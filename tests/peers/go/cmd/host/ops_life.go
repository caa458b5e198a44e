package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/peer"
	"pygo-plugin.example/peers/internal/rpcpeer"
)

// startRequest holds the options of a client. Those left out have go-plugin's
// defaults, but for the protocol, which is gRPC unless NetRPC says otherwise.
type startRequest struct {
	Client         string         `json:"client"`
	Cmd            []string       `json:"cmd"`
	Dir            string         `json:"dir"`
	Env            []string       `json:"env"`
	SkipHostEnv    bool           `json:"skip_host_env"`
	AutoMTLS       bool           `json:"auto_mtls"`
	TLS            *peer.TLSFiles `json:"tls"`
	Multiplex      bool           `json:"multiplex"`
	Managed        bool           `json:"managed"`
	Versions       []int          `json:"versions"`
	NetRPC         []int          `json:"netrpc"` // Those versions that speak net/rpc.
	MinPort        uint           `json:"min_port"`
	MaxPort        uint           `json:"max_port"`
	StartTimeoutMS int            `json:"start_timeout_ms"`
	LogBufferSize  int            `json:"log_buffer_size"`
	SocketGroup    string         `json:"unix_socket_group"`
	SHA256         string         `json:"sha256"`
	Protocols      []string       `json:"allowed_protocols"`
	Reattach       *reattach      `json:"reattach"`
}

// reattach is go-plugin's ReattachConfig in JSON.
type reattach struct {
	Protocol        string `json:"protocol"`
	ProtocolVersion int    `json:"protocol_version"`
	Network         string `json:"network"`
	Address         string `json:"address"`
	PID             int    `json:"pid"`
	Test            bool   `json:"test"`
}

// start makes a client and starts its plugin. The client exists afterwards even
// if the plugin does not. An earlier one of its name is killed
// in the background.
func start(s *session, raw json.RawMessage) (reply, error) {
	var request startRequest
	if err := json.Unmarshal(raw, &request); err != nil {
		return nil, err
	}
	config, err := request.config()
	if err != nil {
		return nil, err
	}
	c := newClient(config)
	s.add(request.Client, c)

	begin := time.Now()
	addr, err := c.plugin.Start()
	if err != nil {
		return nil, err
	}
	answer := reply{
		"network":            addr.Network(),
		"address":            addr.String(),
		"protocol":           string(c.plugin.Protocol()),
		"negotiated_version": c.plugin.NegotiatedVersion(),
		"duration_ms":        milliseconds(begin),
	}
	if reattach := c.plugin.ReattachConfig(); reattach != nil {
		answer["pid"] = reattach.Pid
	}
	return answer, nil
}

func (r *startRequest) config() (*plugin.ClientConfig, error) {
	config := &plugin.ClientConfig{
		HandshakeConfig:     peer.Handshake,
		AllowedProtocols:    []plugin.Protocol{plugin.ProtocolGRPC},
		SkipHostEnv:         r.SkipHostEnv,
		AutoMTLS:            r.AutoMTLS,
		GRPCBrokerMultiplex: r.Multiplex,
		Managed:             r.Managed,
		MinPort:             r.MinPort,
		MaxPort:             r.MaxPort,
		StartTimeout:        time.Duration(r.StartTimeoutMS) * time.Millisecond,
		PluginLogBufferSize: r.LogBufferSize,
	}
	if len(r.Cmd) > 0 {
		config.Cmd = exec.Command(r.Cmd[0], r.Cmd[1:]...)
		config.Cmd.Dir = r.Dir
		config.Cmd.Env = r.Env
	}
	if len(r.Versions) > 0 {
		config.VersionedPlugins = rpcpeer.Versions(r.Versions, r.NetRPC, nil)
		config.ProtocolVersion = 0
	}
	// A reattached client negotiates nothing and uses this set.
	if len(r.Versions) == 0 || r.Reattach != nil {
		config.Plugins = peer.Plugins(int(peer.Handshake.ProtocolVersion), nil)
		if len(r.NetRPC) > 0 {
			config.Plugins = rpcpeer.Plugins(nil)
		}
	}
	if len(r.NetRPC) > 0 {
		config.AllowedProtocols = append(config.AllowedProtocols, plugin.ProtocolNetRPC)
	}
	if r.SocketGroup != "" {
		config.UnixSocketConfig = &plugin.UnixSocketConfig{Group: r.SocketGroup}
	}
	if len(r.Protocols) > 0 {
		config.AllowedProtocols = nil
		for _, protocol := range r.Protocols {
			config.AllowedProtocols = append(config.AllowedProtocols, plugin.Protocol(protocol))
		}
	}
	var err error
	if r.TLS != nil {
		if config.TLSConfig, err = r.TLS.Config(); err != nil {
			return nil, err
		}
	}
	if r.SHA256 != "" {
		checksum, err := hex.DecodeString(r.SHA256)
		if err != nil {
			return nil, err
		}
		config.SecureConfig = &plugin.SecureConfig{Checksum: checksum, Hash: sha256.New()}
	}
	if r.Reattach != nil {
		if config.Reattach, err = r.Reattach.config(); err != nil {
			return nil, err
		}
	}
	return config, nil
}

func (r *reattach) config() (*plugin.ReattachConfig, error) {
	var addr net.Addr
	var err error
	switch r.Network {
	case "unix":
		addr, err = net.ResolveUnixAddr("unix", r.Address)
	case "tcp":
		addr, err = net.ResolveTCPAddr("tcp", r.Address)
	default:
		err = fmt.Errorf("network %q is neither unix nor tcp", r.Network)
	}
	if err != nil {
		return nil, err
	}
	return &plugin.ReattachConfig{
		Protocol:        plugin.Protocol(r.Protocol),
		ProtocolVersion: r.ProtocolVersion,
		Addr:            addr,
		Pid:             r.PID,
		Test:            r.Test,
	}, nil
}

func dispense(c *client, request struct {
	Name string `json:"name"`
}) (reply, error) {
	protocol, err := c.protocol()
	if err != nil {
		return nil, err
	}
	stub, err := protocol.Dispense(request.Name)
	if err != nil {
		return nil, err
	}
	return reply{"type": fmt.Sprintf("%T", stub)}, nil
}

func ping(c *client, _ struct{}) (reply, error) {
	protocol, err := c.protocol()
	if err != nil {
		return nil, err
	}
	return nil, protocol.Ping()
}

// exited reports at once, or waits up to timeout_ms for the end of the process.
func exited(c *client, request struct {
	TimeoutMS int `json:"timeout_ms"`
}) (reply, error) {
	timeout := time.Duration(request.TimeoutMS) * time.Millisecond
	return reply{"exited": waitUntil(timeout, c.plugin.Exited)}, nil
}

func reattachConfig(c *client, _ struct{}) (reply, error) {
	config := c.plugin.ReattachConfig()
	if config == nil {
		return nil, errors.New("the plugin is not running")
	}
	return reply{"reattach": reattach{
		Protocol:        string(config.Protocol),
		ProtocolVersion: config.ProtocolVersion,
		Network:         config.Addr.Network(),
		Address:         config.Addr.String(),
		PID:             config.Pid,
		Test:            config.Test,
	}}, nil
}

// kill shuts the plugin down, by force if need be. A Shutdown call that is never
// answered holds go-plugin up for ever, hence the timeout.
func kill(c *client, request struct {
	TimeoutMS int `json:"timeout_ms"`
}) (reply, error) {
	timeout := 30 * time.Second
	if request.TimeoutMS > 0 {
		timeout = time.Duration(request.TimeoutMS) * time.Millisecond
	}
	begin := time.Now()
	done := make(chan struct{})
	go func() {
		c.plugin.Kill()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(timeout):
		return nil, fmt.Errorf("kill did not return within %s", timeout)
	}
	return reply{
		"duration_ms": milliseconds(begin),
		"exited":      c.plugin.Exited(),
		"forced":      c.logs.wasForced(),
	}, nil
}

// cleanup kills the managed clients, as a host does at its end. go-plugin allows
// it once.
func cleanup(*session, json.RawMessage) (reply, error) {
	begin := time.Now()
	plugin.CleanupClients()
	return reply{"duration_ms": milliseconds(begin)}, nil
}

func milliseconds(begin time.Time) float64 {
	return float64(time.Since(begin).Microseconds()) / 1000
}
