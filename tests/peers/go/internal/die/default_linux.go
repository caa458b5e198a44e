package die

import (
	"syscall"
	"unsafe"
)

// setDefault gives a signal its default action. Package os/signal cannot: on
// SIGSEGV and its like the runtime prints all goroutines and exits with 2.
func setDefault(signal syscall.Signal) error {
	if signal == syscall.SIGKILL || signal == syscall.SIGSTOP {
		return nil
	}
	// The kernel's struct sigaction: handler, flags, restorer and mask. All
	// zeros mean SIG_DFL.
	var action [4]uint64
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION,
		uintptr(signal), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
