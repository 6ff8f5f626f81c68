package scenario

// Source is where the payload of a send lies.
type Source string

// The sources. The files of a file system are made in the directory for temporary
// files.
const (
	InTmpfs   Source = "tmpfs"
	OnDisk    Source = "disk"
	Direct    Source = "direct"
	Procfs    Source = "procfs"
	Zero      Source = "zero"
	Huge      Source = "huge" // of the reserve, see [HugePages]
	Written   Source = "pipe"
	Connected Source = "connection" // of a [Feeder]
)

// sources says what each source is.
func sources() map[Source]string {
	return map[Source]string{
		InTmpfs: "a file of tmpfs", OnDisk: "a file of a disk", Direct: "a file of a disk that is open with O_DIRECT",
		Procfs: "a file of procfs", Zero: "/dev/zero", Huge: "huge pages", Written: "a pipe that is written to",
		Connected: "another connection",
	}
}

func (s Source) String() string { return sources()[s] }

// Socket says how a socket differs from one as it is made.
type Socket struct {
	// Timestamps asks for a timestamp of each send, with the packet that it is of.
	Timestamps bool `json:"timestamps,omitzero"`
	// HeadersAlone asks for timestamps without the packet (SOF_TIMESTAMPING_OPT_TSONLY).
	HeadersAlone bool `json:"timestamps_of_headers,omitzero"`
	// NoOption leaves SO_ZEROCOPY off.
	NoOption bool `json:"no_so_zerocopy,omitzero"`
	// Multipath makes it a socket of MPTCP.
	Multipath bool `json:"mptcp,omitzero"`
	// Fragments lets routers cut datagrams (IP_PMTUDISC_DONT).
	Fragments bool `json:"may_fragment,omitzero"`
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
	case "sendfile", "splice", "mmap_zerocopy", "copy_file_range", "read_write":
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
