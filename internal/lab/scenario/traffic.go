package scenario

// Source is where the payload of a send lies.
type Source string

// The sources. The files of a file system are made in the directory for temporary
// files.
const (
	InTmpfs   Source = "a file of tmpfs"
	OnDisk    Source = "a file of a disk"
	Direct    Source = "a file of a disk that is open with O_DIRECT"
	Procfs    Source = "a file of procfs"
	Zero      Source = "/dev/zero"
	Huge      Source = "huge pages" // of the reserve, see [HugePages]
	Written   Source = "a pipe that is written to"
	Connected Source = "another connection" // of a [Feeder]
)

// Socket says how a socket differs from one as it is made.
type Socket struct {
	// Timestamps asks for a timestamp of each send, with the packet that it is of.
	Timestamps bool
	// HeadersAlone asks for timestamps without the packet (SOF_TIMESTAMPING_OPT_TSONLY).
	HeadersAlone bool
	// NoOption leaves SO_ZEROCOPY off.
	NoOption bool
	// Multipath makes it a socket of MPTCP.
	Multipath bool
	// Fragments lets routers cut datagrams (IP_PMTUDISC_DONT).
	Fragments bool
}

// String says what differs, after a comma; "" if nothing does.
func (s Socket) String() string {
	switch {
	case s.HeadersAlone:
		return ", with timestamps of the headers"
	case s.Timestamps:
		return ", with timestamps of the packets"
	case s.NoOption:
		return ", without SO_ZEROCOPY"
	case s.Multipath:
		return ", over MPTCP"
	case s.Fragments:
		return ", which may be cut on the way"
	}
	return ""
}

// memory reports whether the API sends memory of the application.
func (t Traffic) memory() bool {
	switch t.API {
	case "sendfile", "splice", "mmap_zerocopy":
		return false
	}
	return true
}

// called is what the API is to the kernel.
func (t Traffic) called() string {
	if t.API == "mmap_zerocopy" {
		return "msg_zerocopy"
	}
	return t.API
}
