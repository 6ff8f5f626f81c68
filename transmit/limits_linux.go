package transmit

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// completionBytes is the option memory that a completion takes until it is read,
// at most: 960 bytes were measured, less with other configurations of the kernel.
const completionBytes = 960

// refusedBy returns which limit answered a send with ENOBUFS, on a socket that
// uses so many bytes of option memory.
func refusedBy(options int) (cause, reason string) {
	limit, ok := readSysctl("net/core/optmem_max")
	switch {
	case options == 0 && (ok && completionLeast > limit || lockedMemoryFree()):
		return "optmem-limit", "the option memory that the socket may have does not hold one completion"
	case options > 0 && (ok && options+completionBytes > limit || lockedMemoryFree()):
		return "optmem-limit", "the socket's option memory is used up by completions"
	}
	return "memlock-limit", "the locked memory of this user is used up"
}

// lockedMemoryFree reports whether no limit of locked memory binds this process:
// the socket may be of another network namespace than the process, whose option
// memory cannot be read.
func lockedMemoryFree() bool {
	if soft, _, err := sys.Prlimit(0, sys.LimitMemlock); err == nil && soft == math.MaxUint64 {
		return true
	}
	caps, err := sys.ThreadCaps()
	if err != nil || !caps.Has(sys.CapIPCLock) {
		return false
	}
	// The capability counts in the first user namespace alone, which maps every
	// user to itself.
	users, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(users)), []string{"0", "0", "4294967295"})
}

// pageSize is the unit in which the kernel counts locked memory; on arm64 it may
// be larger, and less is lent than could be.
const pageSize = 4096

// mostLockable returns the size in bytes of a send to try after one of n was
// refused though nothing was outstanding, at least 1. The kernel locks n/4096+2
// pages for a send (mm_account_pinned_pages).
func mostLockable(n int) int {
	soft, _, err := sys.Prlimit(0, sys.LimitMemlock)
	if err == nil && soft < uint64(n) {
		return max(int(soft)-2*pageSize, 1)
	}
	return max(n/2, 1) // others of the user hold locked memory, too
}

// notsentLowat returns how many unsent bytes make a TCP socket stop being
// writable, 0 for no limit: its own TCP_NOTSENT_LOWAT, or the sysctl.
func notsentLowat(k *socketCalls, fd int) int {
	v, err := k.GetInt(fd, sys.SolTCP, sys.TCPNotsentLowat)
	if err != nil || v == 0 {
		v, _ = readSysctl("net/ipv4/tcp_notsent_lowat")
	}
	if v < 0 || v >= 1<<30 {
		return 0
	}
	return v
}

// readSysctl reads a number below /proc/sys, of the network namespace of the
// process: the sockets of others may have other values.
func readSysctl(name string) (int, bool) {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}
