package main

import (
	"os"
	"syscall"
	"time"
)

const watchInterval = 50 * time.Millisecond

// lost is the exit status of a process that was left alone.
const lost = 3

// exitWithParent ends the process when its parent has died, or after a time.
func exitWithParent(lifetime time.Duration) {
	parent := os.Getppid()
	for deadline := time.Now().Add(lifetime); time.Now().Before(deadline); time.Sleep(watchInterval) {
		if os.Getppid() != parent {
			break
		}
	}
	os.Exit(lost)
}

// exitWithProcess is the same for a process that is not the parent.
func exitWithProcess(pid int, lifetime time.Duration) {
	for deadline := time.Now().Add(lifetime); time.Now().Before(deadline); time.Sleep(watchInterval) {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			break
		}
	}
	os.Exit(lost)
}

// hold waits for the process to be killed or to be left alone.
func hold() {
	select {}
}
