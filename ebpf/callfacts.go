package ebpf

import (
	"fmt"
	"time"
)

// The facts that diagnosis is made from. Their numbers are those of bpf/calls.h.

// pattern is what was seen of calls.
type pattern uint8

const (
	patternLoop      pattern = iota // written unchanged from where it had been read to
	patternRefused                  // sendfile, splice or copy_file_range failed
	patternFellBack                 // patternLoop between files for which that had failed
	patternZeroCopy                 // accepted with MSG_ZEROCOPY and SO_ZEROCOPY
	patternNoOption                 // the same without SO_ZEROCOPY
	patternNoBuffers                // MSG_ZEROCOPY failed with ENOBUFS
	patternNoPages                  // MSG_ZEROCOPY failed with EFAULT
	patternHeader                   // sent by itself right before sendfile or splice
	patternSplice                   // from a pipe to a socket
	patternSendPages                // sendfile or splice to a socket failed for the pages, or their number
)

// party is what a call reads or writes.
type party uint8

const (
	partyOther party = iota
	partyFile
	partyPipe
	partyTCP
	partyUDP
	partyUnix
)

func (p party) String() string {
	switch p {
	case partyFile:
		return "a file"
	case partyPipe:
		return "a pipe"
	case partyTCP:
		return "a TCP socket"
	case partyUDP:
		return "a UDP socket"
	case partyUnix:
		return "a Unix socket"
	}
	return "something else"
}

// callCount is one pattern of calls of one process.
type callCount struct {
	pid            int
	comm           string
	cgroup         uint64 // 0 unless the trace is about some
	pattern        pattern
	call           string // "sendfile"
	errno          int32
	source, target party

	calls, bytes uint64
	small        uint64 // calls of less than smallSend or smallSplice
	inode        uint64 // of the last socket
	optmem       uint64 // patternNoBuffers: most option memory seen, in bytes
	lockedPages  uint64 // of the user
	memlock      uint64 // RLIMIT_MEMLOCK, in bytes
	asked        uint64 // the least that was refused, in bytes; 0 if that is not known
	pipePages    uint64 // patternSplice: the most pages of all pipes of the user
	slots        uint32 // patternSplice: least capacity of the pipes, in pages
}

func (c callCount) who() string { return fmt.Sprintf("%s (pid %d)", c.comm, c.pid) }

// latency is how long completions of one process took.
type latency struct {
	completed, copied uint64
	most              time.Duration
	steps             []uint64 // by the power of two of nanoseconds
}

// below returns a time that a share of completions, in percent, did not exceed; 0
// if they came before the call returned.
func (l latency) below(percent uint64) time.Duration {
	var n, total uint64
	for _, s := range l.steps {
		total += s
	}
	for i, s := range l.steps {
		if n += s; n*100 >= total*percent {
			if i == 0 {
				return 0
			}
			return min(time.Duration(2)<<i, l.most)
		}
	}
	return l.most
}

// socketNow is a socket at one moment.
type socketNow struct {
	Socket
	listens    bool
	sent       uint64 // TCP: bytes, with retransmissions
	acked      uint64
	optmem     uint64
	optmemMax  uint64 // 0 if it is not known
	queued     uint64
	zerocopy   bool // SO_ZEROCOPY
	unread     int  // entries in the error queue
	ids        bool // oldest and newest are known
	oldest     uint32
	newest     uint32
	next       uint32 // id of the next send with MSG_ZEROCOPY
	copied     bool   // the oldest completion says so
	mtuProbing int    // net.ipv4.tcp_mtu_probing
	timestamps bool   // asks for one of each send
	inferred   bool   // the ids cannot be seen, only that completions wait
}

// The sizes below which lending does not pay. Lending for a send costs as much as
// copying 4 to 32 KiB, by the state of the cache; these are where it hardly ever
// pays, so that what is called small is small on any machine.
const (
	smallSend   = 16 << 10
	smallSplice = 8 << 10
)
