// Command plugin is the plugin that tests take as the reference: it serves KV
// and Probe through go-plugin as it comes, or what package rpcpeer has over net/rpc.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"pygo-plugin.example/peers/internal/peer"
	"pygo-plugin.example/peers/internal/rpcpeer"
)

func main() {
	network := flag.String("network", "unix", "`unix`, or tcp on 127.0.0.1")
	versions := flag.String("versions", "1", "comma-separated application protocol `versions` to serve")
	netRPC := flag.String("netrpc", "", "comma-separated `versions`, of those, to serve over net/rpc rather than gRPC")
	logLines := flag.Int("log-lines", 0, "write `N` log entries before the handshake")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "exit after this time, so that no test leaves a process behind")
	var files peer.TLSFiles
	flag.StringVar(&files.Cert, "tls-cert", "", "serve TLS with the certificate in this PEM `file`")
	flag.StringVar(&files.Key, "tls-key", "", "the certificate's key, a PEM `file`")
	flag.StringVar(&files.CA, "tls-ca", "", "require client certificates signed by the one in this PEM `file`")
	flag.Parse()

	time.AfterFunc(*lifetime, func() { os.Exit(3) })
	logger := hclog.New(&hclog.LoggerOptions{
		Name:       "peer",
		Level:      hclog.Trace,
		Output:     os.Stderr,
		JSONFormat: true,
	})
	for i := range *logLines {
		logger.Info("a line of the log", "number", i)
	}
	if err := serve(*network, *versions, *netRPC, files, logger); err != nil {
		fmt.Fprintln(os.Stderr, "plugin:", err)
		os.Exit(1)
	}
}

// serve returns when the host has shut the plugin down.
func serve(network, versionList, netRPCList string, files peer.TLSFiles, logger hclog.Logger) error {
	versions, err := peer.ParseVersions(versionList)
	if err != nil {
		return err
	}
	netRPC, err := peer.ParseVersions(netRPCList)
	if err != nil {
		return err
	}
	config := &plugin.ServeConfig{
		HandshakeConfig:  peer.Handshake,
		VersionedPlugins: rpcpeer.Versions(versions, netRPC, logger),
		GRPCServer:       peer.NewServer,
		Logger:           logger,
	}
	if files.Cert != "" {
		config.TLSProvider = func() (*tls.Config, error) { return files.Config() }
	}
	switch network {
	case "unix":
		plugin.Serve(config)
		return nil
	case "tcp":
		return serveTCP(config, netRPC)
	default:
		return fmt.Errorf("network %q is neither unix nor tcp", network)
	}
}
