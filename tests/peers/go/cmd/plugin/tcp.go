package main

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/peer"
)

// serveTCP does what plugin.Serve does on Windows. On POSIX systems plugin.Serve
// insists on a unix socket, but its servers take any listener.
func serveTCP(config *plugin.ServeConfig, netRPC []int) error {
	if os.Getenv(config.MagicCookieKey) != config.MagicCookieValue {
		return errors.New("this is a plugin, start it from its host")
	}
	listener, err := listenTCP()
	if err != nil {
		return err
	}
	tlsConfig, serverCert, err := serverTLS(config)
	if err != nil {
		return err
	}

	stdoutReader, stdoutWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	stderrReader, stderrWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	version := chooseVersion(config.VersionedPlugins)
	done := make(chan struct{})
	var server plugin.ServerProtocol
	protocol := plugin.ProtocolGRPC
	if slices.Contains(netRPC, version) {
		protocol = plugin.ProtocolNetRPC
		if tlsConfig != nil {
			listener = tls.NewListener(listener, tlsConfig)
		}
		server = &plugin.RPCServer{
			Plugins: config.VersionedPlugins[version],
			DoneCh:  done,
			Stdout:  stdoutReader,
			Stderr:  stderrReader,
		}
	} else {
		server = &plugin.GRPCServer{
			Plugins: config.VersionedPlugins[version],
			Server:  config.GRPCServer,
			TLS:     tlsConfig,
			DoneCh:  done,
			Stdout:  stdoutReader,
			Stderr:  stderrReader,
		}
	}
	if err := server.Init(); err != nil {
		return err
	}

	line := fmt.Sprintf("%d|%d|tcp|%s|%s|%s", plugin.CoreProtocolVersion, version, listener.Addr(), protocol, serverCert)
	if os.Getenv("PLUGIN_MULTIPLEX_GRPC") != "" {
		line += "|false" // The multiplexer is private to plugin.Serve.
	}
	fmt.Println(line)

	// Ctrl-C is for the host. Receiving it is enough to ignore it.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	os.Stdout, os.Stderr = stdoutWriter, stderrWriter
	go server.Serve(listener) // RPCServer's returns when the listener is closed.
	<-done
	return nil
}

// listenTCP takes the first free port between PLUGIN_MIN_PORT and PLUGIN_MAX_PORT.
func listenTCP() (net.Listener, error) {
	low, err := strconv.Atoi(os.Getenv("PLUGIN_MIN_PORT"))
	if err != nil {
		return nil, fmt.Errorf("PLUGIN_MIN_PORT: %w", err)
	}
	high, err := strconv.Atoi(os.Getenv("PLUGIN_MAX_PORT"))
	if err != nil {
		return nil, fmt.Errorf("PLUGIN_MAX_PORT: %w", err)
	}
	for port := low; port <= high; port++ {
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("no free port from %d to %d", low, high)
}

// chooseVersion returns the highest version that the host lists, or the lowest
// of ours, which leaves it to the host to say that they do not match.
func chooseVersion(sets map[int]plugin.PluginSet) int {
	var versions []int
	for version := range sets {
		versions = append(versions, version)
	}
	slices.Sort(versions)
	offered := strings.Split(os.Getenv("PLUGIN_PROTOCOL_VERSIONS"), ",")
	for _, version := range slices.Backward(versions) {
		if slices.Contains(offered, strconv.Itoa(version)) {
			return version
		}
	}
	return versions[0]
}

// serverTLS returns the configuration to serve with, nil for none, and the
// certificate field of the handshake line.
func serverTLS(config *plugin.ServeConfig) (*tls.Config, string, error) {
	if config.TLSProvider != nil {
		tlsConfig, err := config.TLSProvider()
		return tlsConfig, "", err
	}
	hostPEM := os.Getenv("PLUGIN_CLIENT_CERT")
	if hostPEM == "" {
		return nil, "", nil
	}
	tlsConfig, err := peer.MutualTLS([]byte(hostPEM))
	if err != nil {
		return nil, "", err
	}
	return tlsConfig, base64.RawStdEncoding.EncodeToString(tlsConfig.Certificates[0].Certificate[0]), nil
}
