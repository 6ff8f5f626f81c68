package transmit

import (
	"runtime"
	"slices"
	"time"
)

// abandonedFor is how long memory of a caller stays referenced after a connection
// was closed with the kernel still holding it: TCP gives up on a peer after 924.6
// seconds with the default net.ipv4.tcp_retries2 of 15 (ip-sysctl), and may read
// the memory until then.
const abandonedFor = 16 * time.Minute

// holdAbandoned keeps memory from being collected, and so from being used for
// something else, while the kernel may still send from it.
func holdAbandoned(parts [][]byte) {
	if len(parts) == 0 {
		return
	}
	kept := slices.Clone(parts)
	time.AfterFunc(abandonedFor, func() { runtime.KeepAlive(kept) })
}
