// Package die ends the process by a signal.
package die

import (
	"os"
	"syscall"
	"time"
)

// Of ends the process by a signal, whatever Go's runtime makes of that signal,
// and leaves no core file. It returns, after a second, if the signal does not kill.
func Of(signal syscall.Signal) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return err
	}
	if err := setDefault(signal); err != nil {
		return err
	}
	if err := syscall.Kill(os.Getpid(), signal); err != nil {
		return err
	}
	// Another thread may be the one to receive it.
	time.Sleep(time.Second)
	return nil
}
