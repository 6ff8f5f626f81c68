package ebpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/zcprobe/zcprobe/probe"
)

// strangeSocket marks a fact of a packet that was passed on by this machine and that
// no socket can be found for, as its addresses were translated on the way. The rest of
// the number stands for where the packet came from and where it went to, as
// bpf/functions_packet.h has it.
const strangeSocket = 1 << 63

// strangers are copies of such packets, in bytes.
type strangers map[uint64]uint64

// meet takes in a fact of a packet of nobody. Those alone count whose cause is known:
// others may be on their way in.
func (s strangers) meet(f fact) {
	if found, ok := judgeFact(f); ok && found.id != "" && found.mechanism != probe.AtIngress {
		s[f.socket] += f.bytes
	}
}

// of returns how much of what a socket has sent may have been copied: one of the
// addresses is often left as it was.
func (s strangers) of(socket Socket) uint64 {
	from, to := folded(socket.Local.Addr()), folded(socket.Remote.Addr())
	var sum uint64
	for key, bytes := range s {
		if uint32(key>>32)&^(1<<31) == from&^(1<<31) || socket.Remote.IsValid() && uint32(key) == to {
			sum += bytes
		}
	}
	return sum
}

// folded is an address in 32 bits, as the kernel side has it in memory.
func folded(a netip.Addr) uint32 {
	var sum uint32
	for b := a.Unmap().AsSlice(); len(b) > 0; b = b[4:] {
		sum ^= binary.NativeEndian.Uint32(b)
	}
	return sum
}

// translated says what cannot be told as addresses were translated.
func translated(bytes uint64) string {
	return fmt.Sprintf("which flows sent %d bytes that were copied after their addresses had been translated (NAT): as much of those that may have is unknown", bytes)
}
