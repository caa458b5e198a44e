//go:build !linux

package die

import (
	"os/signal"
	"syscall"
)

// setDefault does what os/signal can do. Signals such as SIGSEGV still end in a
// report of the runtime and exit status 2.
func setDefault(sig syscall.Signal) error {
	signal.Reset(sig)
	return nil
}
