package transmit

import (
	"os"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// completionBytes is the option memory that a completion takes until it is read,
// at most: 960 bytes were measured, less with other configurations of the kernel.
const completionBytes = 960

// optionMemoryShort reports whether a socket that uses so many bytes of option
// memory has no room for another completion.
func optionMemoryShort(used int) bool {
	limit, ok := readSysctl("net/core/optmem_max")
	return ok && used+completionBytes > limit
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
