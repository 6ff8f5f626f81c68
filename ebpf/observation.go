package ebpf

import (
	"net/netip"
	"time"
)

// The facts that the tracer brings out of the kernel. Their numbers are those of
// bpf/state.h; they are written here again so that judging them needs no kernel,
// and a test compares the two.

// API is what the application asked for.
type API uint8

// The ways to send.
const (
	APIUnknown API = iota
	APIWrite
	APIWritev
	APISendfile
	APISplice
	APIVmsplice
	APIZeroCopy
	APIUringSend
	APIUringSendZC
	APIUringSendZCFixed
)

// String returns the word of the output format. io_uring with and without
// registered buffers is the same word; see Fixed.
func (a API) String() string {
	switch a {
	case APIWrite:
		return "write"
	case APIWritev:
		return "writev"
	case APISendfile:
		return "sendfile"
	case APISplice:
		return "splice"
	case APIVmsplice:
		return "vmsplice"
	case APIZeroCopy:
		return "msg_zerocopy"
	case APIUringSend:
		return "io_uring_send"
	case APIUringSendZC, APIUringSendZCFixed:
		return "io_uring_send_zc"
	}
	return "unknown"
}

// copies says whether copying is what the call is made of.
func (a API) copies() bool { return a == APIWrite || a == APIWritev || a == APIUringSend }

// memory is the kind of memory that payload lies in.
type memory uint8

const (
	memoryUnknown memory = iota
	memoryLinear         // the packet's own
	memoryKernel         // a page of the kernel's
	memoryUser           // a page of a process
	memoryCache          // a page of a file
	memoryDevice         // memory of a device
)

// kernels says whether the CPU, or a device, has written the payload there.
func (m memory) kernels() bool { return m == memoryLinear || m == memoryKernel }

// lent says whether it is still where the application, or the file, has it.
func (m memory) lent() bool { return m == memoryUser || m == memoryCache || m == memoryDevice }

// place is where payload was counted.
type place uint8

const (
	placeSent      place = iota // accepted from the application
	placeQueued                 // entered its first device
	placeDoor                   // at the door of that device's driver
	placeLower                  // at the door of a device below
	placeAfter                  // met something behind a door
	placeAgain                  // entered its first device again
	placeAbsorbed               // merged into a packet at placeAfter, that is counted for it
	placeUnseen                 // accepted from the application while nobody looked
	placeUnderWay               // behind a door, and not yet decided; only at the end
	placeMultipath              // copied by a socket of MPTCP
)

// evidence is what was seen together with payload.
type evidence uint32

const (
	sourceMask    evidence = 7
	sourceCache   evidence = 1
	sourceRead    evidence = 2
	sourceWritten evidence = 3
	sourceSocket  evidence = 4
	sourceUser    evidence = 5
	sourceDirect  evidence = 6
	sourceMemory  evidence = 7
)

const (
	seenNoSOZeroCopy evidence = 1 << (3 + iota)
	seenFragment
	seenNoSG
	seenNoChecksum
	seenPartial
	seenGSO
	seenLent
	seenTap
	seenTapIn
	seenEncap
	seenULP
	seenReceived
	seenLoopback
)

const (
	metMask    evidence = 7 << 16
	metSocket  evidence = 1 << 16
	metReader  evidence = 2 << 16
	metFreed   evidence = 3 << 16
	metDropped evidence = 4 << 16
	metQueue   evidence = 5 << 16
)

const (
	seenXDP evidence = 1 << (20 + iota)
	seenSampled
	seenCorked
	seenOpening
	seenStamp
	seenStamped
	seenTapOut
)

// direct says whether payload was read past the page cache, by whom is not known: disks
// write to memory themselves, and the CPU copies where they cannot.
func (o observation) direct() bool {
	return o.evidence&sourceMask == sourceDirect && o.memory == memoryKernel && (o.api == APISendfile || o.api == APISplice)
}

func (e evidence) has(bits evidence) bool { return e&bits == bits }

// A Device is a network device as it was when packets met it.
type Device struct {
	NetNS uint32 // inode of the namespace
	Index uint32
	Name  string
	Type  string // "veth"; empty for hardware and lo
}

// A Socket is one that has sent.
type Socket struct {
	ID       uint64 // never used twice
	PID      int    // of the process that first sent while it was watched; 0 if none was seen
	Comm     string // its name then
	Inode    uint64 // the N of socket:[N] in /proc/PID/fd
	Cgroup   uint64
	NetNS    uint32
	UID      uint32
	Protocol string // tcp, udp or mptcp
	Local    netip.AddrPort
	Remote   netip.AddrPort // the zero AddrPort for an unconnected socket
}

// An observation is payload of one socket that was seen at one place under the
// same circumstances.
type observation struct {
	socket   uint64
	device   Device // the zero Device where there is none
	where    string // the function that freed the packet, at placeAfter
	place    place
	api      API
	memory   memory // where it lies
	was      memory // where it lay when it entered its first device
	evidence evidence
	bytes    uint64
	packets  uint64
	lent     uint64 // at placeAfter: bytes that were in lent memory at the door
	stack    uint32 // where the kernel was then, in observations.stacks; 0 if that was not kept
}

// Losses say what was not counted, each by its reason; all 0 in a complete trace.
type Losses struct {
	Sockets  uint64 `json:"sockets"`  // no room for another socket
	Counters uint64 `json:"counters"` // no room for another kind of observation
	Flights  uint64 `json:"flights"`  // packets forgotten while they were under way
	Unparsed uint64 `json:"unparsed"` // packets whose headers make no sense for their socket
	Frags    uint64 `json:"frags"`    // packets of more fragments than are looked at
	Stacks   uint64 `json:"stacks"`   // no room for another stack
	Bases    uint64 `json:"bases"`    // no room for a connection that may send between samples
	Missed   uint64 `json:"missed"`   // times that a hook was skipped, where the kernel tells
}

// multipath is what becomes of payload that a socket of MPTCP has accepted: whatever
// the call, mptcp_sendmsg copies it into pages of its own, for subflows to send.
func (o observation) multipath() observation {
	o.place, o.memory, o.was = placeMultipath, memoryKernel, memoryKernel
	return o
}

// observations are all that one trace has seen.
type observations struct {
	sockets  []Socket
	counts   []observation
	facts    []fact            // of the tiers of functions, which have no counts
	callsMix bool              // the end of calls is not seen: bytes of one may be counted for the next
	blindXDP bool              // they do not see copies for the XDP programs of veth devices
	skipped  skips             // hooks of theirs
	doubts   map[flowKey]doubt // what that leaves open
	most     map[uint64]uint64 // by socket: the most bytes that they found accepted at once
	losses   Losses
	sampled  sampling
	stacks   map[uint32][]string // by observation.stack: functions, the innermost first
	watched  []watchedSocket     // sockets as they are, in the tier without BPF
	gaps     []string            // what could not be seen, a sentence each

	sendpages bool // the kernel splices by sendpage, as before Linux 6.5
}

// sampling is how much of the time was looked at.
type sampling struct {
	windows int           // 0: all of the time
	of      time.Duration // how long samples were taken, instead of looking at everything
	watched time.Duration // how long the windows were, together
}
