package probe

// Schema names of the reports. Fields are only ever added under a name; a
// change of meaning gets a new one.
const (
	ProbeSchema = "zcprobe/probe/v1"
	PathSchema  = "zcprobe/path/v1"
)

// Report is what [Judge] says about a host. Its JSON form is zcprobe/probe/v1.
type Report struct {
	Schema          string           `json:"schema"`
	Host            Host             `json:"host"`
	Verdict         Verdict          `json:"verdict"`
	Features        []Feature        `json:"features"` // sorted by ID, then Subject
	NICs            []NIC            `json:"nics"`     // in order of interface index
	Taps            []TapReport      `json:"taps"`
	TapChecks       []Check          `json:"tap_checks"` // tap.none
	Limits          Limits           `json:"limits"`
	Hazards         []Hazard         `json:"hazards"`
	Tracing         Tracing          `json:"tracing"`
	Path            *PathReport      `json:"path,omitempty"`
	Recommendations []Recommendation `json:"recommendations"`

	// Blockers is what stands in the way of zero-copy, gravest first: failed
	// conditions, then what could not be told, then warnings.
	Blockers []Check `json:"blockers"`

	dev string // Options.Dev: the report is about this device alone
}

// Host names the machine and the process that looked at it.
type Host struct {
	OS       string `json:"os"`
	Kernel   string `json:"kernel"` // release as uname(2) gives it
	Arch     string `json:"arch"`   // GOARCH
	UID      uint32 `json:"uid"`    // effective user id of the probing process
	Lockdown string `json:"lockdown"`
	Seccomp  string `json:"seccomp"` // "none", "strict", "filter", "unknown"
	Sandbox  string `json:"sandbox"` // "gvisor" when system calls are emulated, else ""
}

// Verdict is the answer in one line.
type Verdict struct {
	Status  CheckStatus `json:"status"`
	Summary string      `json:"summary"`
}

// Evidence is one observation that led to an answer: where it came from (a
// system call, an ioctl, a file) and what it said.
type Evidence struct {
	Source string `json:"source"`
	Value  string `json:"value"`
}

// Feature is the state of one thing the host can or cannot do.
type Feature struct {
	ID       string        `json:"id"`
	Status   FeatureStatus `json:"status"`
	Subject  string        `json:"subject,omitempty"` // the device, for nic.*; the directory, for reflink and file.lease
	Detail   string        `json:"detail"`            // one plain sentence
	Evidence []Evidence    `json:"evidence"`
	Remedy   string        `json:"remedy,omitempty"` // a command, or what to change
}

// NIC is one network device of the namespace.
type NIC struct {
	Name   string   `json:"name"`
	Index  int      `json:"index"`
	Driver string   `json:"driver"`
	Kind   string   `json:"kind"` // rtnetlink kind, or "physical", "loopback", "virtual"
	MTU    int      `json:"mtu"`
	Up     bool     `json:"up"`
	Qdisc  string   `json:"qdisc"`
	XDP    string   `json:"xdp"`   // "", "native", "generic", "offloaded", "multiple"
	Lower  []string `json:"lower"` // devices below it in the same namespace

	// RoutesIPv4 and RoutesIPv6 count the unicast routes that lead out of it,
	// in all tables, those to the link itself aside; nil: unknown.
	RoutesIPv4 *int `json:"routes_ipv4"`
	RoutesIPv6 *int `json:"routes_ipv6"`

	Features map[string]FeatureState `json:"features"`
	Error    string                  `json:"error,omitempty"` // why Features is empty
}

// FeatureState is the state of one device feature as ETHTOOL_GFEATURES gives
// it. Active is what the data path uses.
type FeatureState struct {
	Available    bool `json:"available"`
	Requested    bool `json:"requested"`
	Active       bool `json:"active"`
	NeverChanged bool `json:"never_changed"`
}

// TapReport is one packet socket that may see this host's outgoing packets.
type TapReport struct {
	Device         string `json:"device"` // "" is any device
	Protocol       uint16 `json:"protocol"`
	PID            int    `json:"pid"` // 0: not found
	Comm           string `json:"comm"`
	CopiesOutgoing *bool  `json:"copies_outgoing"` // nil: cannot tell
	NetNS          string `json:"netns"`           // "" is the probed namespace
	Handler        string `json:"handler"`         // kernel function, for a tap that is no socket
	Detail         string `json:"detail"`
}

// Limits are the limits that decide whether zero-copy works in production. A
// nil value means unlimited, or, when the field is named in Unknown, that it
// could not be read.
type Limits struct {
	PID                  int      `json:"pid"` // whose limits; 0 is this process
	UID                  uint32   `json:"uid"`
	MemlockBytes         *uint64  `json:"memlock_bytes"` // RLIMIT_MEMLOCK, soft
	MemlockMaxBytes      *uint64  `json:"memlock_max_bytes"`
	MemlockUsedBytes     *uint64  `json:"memlock_used_bytes"` // locked by the process, VmLck and VmPin
	MemlockExempt        bool     `json:"memlock_exempt"`     // CAP_IPC_LOCK in the initial user namespace
	OptmemMaxBytes       *uint64  `json:"optmem_max_bytes"`
	TCPWmemMaxBytes      *uint64  `json:"tcp_wmem_max_bytes"`
	WmemMaxBytes         *uint64  `json:"wmem_max_bytes"`
	PipeMaxBytes         *uint64  `json:"pipe_max_bytes"`
	PipeUserSoftPages    *uint64  `json:"pipe_user_pages_soft"`
	PipeUserHardPages    *uint64  `json:"pipe_user_pages_hard"`
	PipePagesExempt      bool     `json:"pipe_pages_exempt"` // of both: CAP_SYS_RESOURCE or CAP_SYS_ADMIN in the initial user namespace
	NofileSoft           *uint64  `json:"nofile_soft"`
	MemlockNeededBytes   uint64   `json:"memlock_needed_bytes"`  // for the stated load
	OptmemNeededBytes    uint64   `json:"optmem_needed_bytes"`   // per socket, for the stated load
	BandwidthBytesPerSec uint64   `json:"bandwidth_bytes_per_s"` // the stated load
	RTTNanoseconds       uint64   `json:"rtt_ns"`                // the stated load
	Connections          uint64   `json:"connections"`           // the stated load
	IOUringDisabled      *int64   `json:"io_uring_disabled"`     // kernel.io_uring_disabled
	Unknown              []string `json:"unknown"`               // JSON names of what could not be read
	Checks               []Check  `json:"checks"`                // limit.memlock, limit.optmem, limit.pipe
}

// Check is one judged condition; preflight's checks are made of these.
type Check struct {
	ID       string      `json:"id"`
	Status   CheckStatus `json:"status"`
	Subject  string      `json:"subject,omitempty"`
	Detail   string      `json:"detail"`
	Evidence []Evidence  `json:"evidence"`
	Causes   []string    `json:"causes"` // ids of the catalogue
	Remedy   string      `json:"remedy,omitempty"`
}

// Hazard is a way in which zero-copy sends wrong data, and whether this host has it.
type Hazard struct {
	ID       string      `json:"id"` // a catalogue id, without "hazard."
	Status   CheckStatus `json:"status"`
	Subject  string      `json:"subject,omitempty"`
	Detail   string      `json:"detail"`
	Evidence []Evidence  `json:"evidence"`
	Remedy   string      `json:"remedy,omitempty"`
}

// Tracing is what the tracer could do here; package ebpf answers, the command
// line joins the two.
type Tracing struct {
	Tiers []Tier `json:"tiers"`
}

// Tier is one way to attach to the kernel.
type Tier struct {
	ID     string        `json:"id"`
	Status FeatureStatus `json:"status"`
	Detail string        `json:"detail"`
}

// Recommendation is a backend for one kind of transfer; package transmit
// answers, the command line joins the two.
type Recommendation struct {
	Source    string     `json:"source"`
	Protocol  string     `json:"protocol"`
	SizeBytes uint64     `json:"size_bytes"`
	Backend   string     `json:"backend"`
	Reason    string     `json:"reason"`
	Evidence  []Evidence `json:"evidence"` // what decided
	Rejected  []Rejected `json:"rejected"`
}

// Rejected is a backend that lost, and why.
type Rejected struct {
	Backend string   `json:"backend"`
	Reason  string   `json:"reason"`
	Causes  []string `json:"causes"` // ids of the catalogue
}

// PathReport is the device path to one destination and what it costs each API.
// Its JSON form is zcprobe/path/v1.
type PathReport struct {
	Schema      string      `json:"schema"`
	Destination string      `json:"destination"` // as asked, with the address it resolved to
	Local       string      `json:"local"`       // source address the kernel would choose
	Verdict     Verdict     `json:"verdict"`
	Hops        []Hop       `json:"hops"`
	APIs        []APIReport `json:"apis"`
	Evidence    []Evidence  `json:"evidence"`
	Limits      []string    `json:"limits"` // where our view ends, one sentence each

	// What the path as a whole can do: the least that any of its devices can.
	MTU           int   `json:"mtu"`            // of the route, in bytes; 0: unknown
	ScatterGather *bool `json:"scatter_gather"` // nil: unknown
	TxChecksum    *bool `json:"tx_checksum"`    // for the address family in use
	TSO           *bool `json:"tso"`
	USO           *bool `json:"uso"`

	Blockers []PathBlocker `json:"blockers"` // what keeps transfers from being zero-copy, without what is expected

	// Error says why there is no answer at all: the destination is malformed
	// or does not resolve. It is "" for a destination without a route, which
	// is an answer.
	Error string `json:"error,omitempty"`
}

// PathBlocker is one thing to change so that more transfers are zero-copy.
type PathBlocker struct {
	ID     string `json:"id"` // a catalogue id
	Device string `json:"device,omitempty"`
	NetNS  string `json:"netns"` // "" is the probed namespace
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// Hop is one device that every packet to the destination passes.
type Hop struct {
	Device        string `json:"device"`
	NetNS         string `json:"netns"` // "" is the probed namespace
	Kind          string `json:"kind"`
	Driver        string `json:"driver"`
	MTU           int    `json:"mtu"`
	ScatterGather *bool  `json:"scatter_gather"` // nil: unknown
	TxChecksum    *bool  `json:"tx_checksum"`    // for the address family in use
	TSO           *bool  `json:"tso"`
	USO           *bool  `json:"uso"`
	Detail        string `json:"detail"`
}

// APIReport predicts one API on this path.
type APIReport struct {
	API            string      `json:"api"`
	Protocol       string      `json:"protocol"`
	Source         string      `json:"source"`
	SizeBytes      uint64      `json:"size_bytes"`
	Supported      *bool       `json:"supported"` // nil: unknown
	Copies         *int        `json:"copies"`    // of each payload byte on this host, the receiver's recv not counted; nil: unknown
	ChecksumPasses *int        `json:"checksum_passes"`
	ZeroCopy       ZeroCopy    `json:"zero_copy"`
	Causes         []PathCause `json:"causes"`
	Detail         string      `json:"detail"`
}

// PathCause is one reason for a copy or pass on a path.
type PathCause struct {
	ID        string    `json:"id"`
	Mechanism Mechanism `json:"mechanism"`
	Expected  bool      `json:"expected"`
	Device    string    `json:"device,omitempty"`
}
