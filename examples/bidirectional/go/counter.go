// Package counter is what the example's host and plugin in Go have in common.
package counter

import "github.com/hashicorp/go-plugin"

// Handshake has to be the same as in shared.py.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "COUNTER_EXAMPLE_PLUGIN",
	MagicCookieValue: "71b6f0d3-counter",
}
