package peer

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ParseVersions reads a comma-separated list of protocol versions, which may be empty.
func ParseVersions(list string) ([]int, error) {
	var versions []int
	if list == "" {
		return nil, nil
	}
	for _, field := range strings.Split(list, ",") {
		version, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil {
			return nil, fmt.Errorf("protocol version %q: %w", field, err)
		}
		versions = append(versions, version)
	}
	return versions, nil
}

// TLSFiles names the PEM files of an explicit TLS configuration.
type TLSFiles struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	// CA signs the other side's certificate.
	CA string `json:"ca"`
	// ServerName is the name that a host expects in the plugin's certificate.
	ServerName string `json:"server_name"`
}

// Config loads the files. Both roles use the result: a plugin requires a client
// certificate when CA is set.
func (f TLSFiles) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{cert}
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", f.CA)
		}
		config.RootCAs = pool
		config.ClientCAs = pool
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}
