package sys

import "golang.org/x/sys/unix"

// ThreadID returns the kernel's id of the calling thread. It means something
// only while the goroutine is locked to its thread.
func ThreadID() int { return unix.Gettid() }
