package transmit

// SourceKind is where the bytes of a transfer come from. The names are those of
// reports and of the command line.
type SourceKind string

// The kinds of source.
const (
	SourceFile   SourceKind = "file"
	SourceMemory SourceKind = "memory"
	SourceSocket SourceKind = "socket"
	SourcePipe   SourceKind = "pipe"
)

// SourceKinds returns all kinds of source.
func SourceKinds() []SourceKind {
	return []SourceKind{SourceFile, SourceMemory, SourceSocket, SourcePipe}
}

// Protocol is what the bytes of a transfer go to.
type Protocol string

// The protocols; ToFile and ToPipe are none, but stand in their place.
const (
	TCP    Protocol = "tcp"
	UDP    Protocol = "udp"
	Unix   Protocol = "unix" // a stream socket
	ToFile Protocol = "file"
	ToPipe Protocol = "pipe"
)

// Protocols returns all protocols.
func Protocols() []Protocol { return []Protocol{TCP, UDP, Unix, ToFile, ToPipe} }

// Stability says whether the source can change while the kernel sends it.
type Stability uint8

// What a caller can say of its source.
const (
	// KeptStable is the contract of this package: the source does not change
	// before the transfer is released. Whoever breaks it sends a mixture.
	KeptStable Stability = iota
	// MayChange: others may write to the file, or shorten it, at any time. What
	// was read is then what is sent.
	MayChange
	// Immutable: a sealed memfd, a file with fs-verity or chattr +i, or one that
	// is only ever replaced by rename.
	Immutable
)

// Reuse says when the caller wants its memory back.
type Reuse uint8

// The wishes for reuse.
const (
	// ReuseReleased: when the [Completion] is released. Whoever can wait for it
	// says this.
	ReuseReleased Reuse = iota
	// ReuseAtOnce: when the call returns, always. Only a copy can do that.
	ReuseAtOnce
)

// Goal is what a transfer is to be good at.
type Goal uint8

// The goals.
const (
	// Throughput is the least CPU time for each byte.
	Throughput Goal = iota
	// Latency takes the way without notification where it is not certain that
	// the other is cheaper: at the upper end of the interval of a crossover.
	Latency
)

// CacheState is where the data is: for memory and mapped files in the caches of
// the CPU (hot) or not (cold), for files in the page cache or not.
type CacheState string

// The states; unknown is the zero value.
const (
	CacheUnknown CacheState = ""
	CacheHot     CacheState = "hot"
	CacheCold    CacheState = "cold"
)

// Transfer is what is to be sent. The zero values of all but Source and Protocol
// are those of a caller who knows nothing more.
type Transfer struct {
	Source   SourceKind
	Protocol Protocol
	IPv6     bool // the socket is of that family; a path says it too

	// SizeBytes is what one send hands over; 0: not known, or a stream of sends
	// of any size. Over UDP it is one datagram, or with SegmentBytes one batch.
	SizeBytes int64

	// Parts is the number of pieces of memory in one send, header and trailer
	// included; 0 is one. Beside a file it counts the header and the trailer.
	Parts int

	// SegmentBytes is the payload of each datagram that the kernel cuts a send
	// over UDP into (UDP_SEGMENT), 0 without.
	SegmentBytes int

	Stability Stability
	Reuse     Reuse
	Goal      Goal
	Cache     CacheState

	// MappingKept: the file is mapped and faulted in already and the mapping is
	// kept for sends to come ([Mapping]). Without it mapping, faulting in and
	// unmapping are part of each send.
	MappingKept bool

	// Ring: the program keeps a [Ring], and sends buffers of a [Pool] through it.
	Ring bool
}
