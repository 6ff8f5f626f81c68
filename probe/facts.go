package probe

// Facts is everything read from one host. It holds observations and no
// judgement, and is what a record stores. Every list is in a deterministic
// order.
//
// The tag "addr" says what a string holds that a record replaces by a
// pseudonym: "ip", "mac", "host", "path" or "mount option". In strings without
// it addresses are found by their look; "-" keeps a string as it is.
type Facts struct {
	Host     HostFacts     `json:"host"`
	Outcomes []Outcome     `json:"outcomes"` // functional tests, sorted by ID, then Subject
	Networks []Network     `json:"networks"` // [0] is the probed namespace
	Routes   []RouteAnswer `json:"routes"`   // what the kernel answered while a path was followed
	Taps     TapFacts      `json:"taps"`
	Limits   LimitFacts    `json:"limits"`
	Dirs     []DirFacts    `json:"dirs"`
	Paths    []PathQuery   `json:"paths"` // the destinations that were asked for

	// Neighbours are the link-layer answers that a path depended on.
	Neighbours []NeighbourAnswer `json:"neighbours"`
}

// HostFacts describes the kernel and the probing process.
type HostFacts struct {
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Kernel  string `json:"kernel" addr:"-"`
	UID     uint32 `json:"uid"`     // effective
	Groups  []int  `json:"groups"`  // effective and supplementary group ids
	CapEff  uint64 `json:"cap_eff"` // effective capability set before the probing thread dropped any
	Seccomp string `json:"seccomp"` // "none", "strict", "filter", "unknown"

	// InitUserNS: the process is in the initial user namespace; nil: could not tell.
	InitUserNS *bool  `json:"init_user_ns"`
	Lockdown   string `json:"lockdown"` // "none", "integrity", "confidentiality", "unknown"
	Sandbox    string `json:"sandbox"`  // "gvisor", or ""

	// Config holds the kernel configuration options that decide something
	// here ("CONFIG_TLS": "y", "m" or "n"), nil when no configuration of the
	// running kernel was found; ConfigSource is the file it came from.
	Config       map[string]string `json:"config"`
	ConfigSource string            `json:"config_source"`

	// Modules holds, for the modules that decide something here, "builtin",
	// "loaded", "available" (in the running kernel's module tree, not loaded),
	// "absent" (the tree is complete and lacks it) or "unknown".
	Modules map[string]string `json:"modules"`

	// Sysctls holds the text of files below /proc/sys by dotted name; a name
	// that could not be read is missing here and in SysctlErrors.
	Sysctls      map[string]string `json:"sysctls"`
	SysctlErrors map[string]string `json:"sysctl_errors"`

	// ModuleParams holds the text of parameters that decide something, as
	// "MODULE.NAME": missing where there is none, "" where it may not be read.
	ModuleParams map[string]string `json:"module_params"`

	Protocols []string `json:"protocols"` // names in /proc/net/protocols, sorted; empty: could not be read
	Ciphers   []string `json:"ciphers"`   // those of /proc/crypto that decide something and are there already
	IPv6      *bool    `json:"ipv6"`      // /proc/net/if_inet6 or net.ipv6 sysctls exist
	Errors    []string `json:"errors"`    // what could not be read about the host, one sentence each
}

// Outcome is what one functional test saw. Steps are in the order they were
// made and end with the one that decided.
type Outcome struct {
	ID      string `json:"id"`
	Subject string `json:"subject,omitempty"`
	Steps   []Step `json:"steps"`
	// Seen holds the measured values of the test by name ("bytes", "equal",
	// "completion_code"); which names a test sets is stated where it is defined.
	Seen map[string]int64 `json:"seen,omitempty"`
	// NotTried says why the test was not made; Steps is then empty.
	NotTried string `json:"not_tried,omitempty"`
}

// Step is one system call of a functional test and its result.
type Step struct {
	Op    string `json:"op"`              // as strace would name it: "setsockopt SO_ZEROCOPY"
	Errno string `json:"errno,omitempty"` // "EOPNOTSUPP", or in words what else went wrong; "" is success
	Value string `json:"value,omitempty"` // what came back, for people
	// Prep: the step only prepares the test; its failure says nothing about
	// the feature. Such steps are noted only when they fail.
	Prep bool `json:"prep,omitempty"`
}

// Network is one network namespace as far as it was looked at.
type Network struct {
	// ID is "" for the probed namespace and a label stable within the facts
	// ("ns1") for any other.
	ID    string `json:"id"`
	Links []Link `json:"links"` // by index
	Error string `json:"error,omitempty"`

	// Egress is what the routes of the namespace lead out of; nil: not read,
	// as for every namespace but the probed one, or EgressError.
	Egress      *Egress `json:"egress"`
	EgressError string  `json:"egress_error,omitempty"`
}

// Egress counts unicast routes, in all tables, by the device they lead out of.
// Routes to the link itself (fe80::/10, multicast) do not count.
type Egress struct {
	Devices []EgressDevice `json:"devices"` // by index; a device without a route is not here
}

// EgressDevice is a device with routes.
type EgressDevice struct {
	Index int `json:"index"`
	IPv4  int `json:"ipv4"`
	IPv6  int `json:"ipv6"`
}

// Link is one network device: rtnetlink attributes joined with ethtool state.
type Link struct {
	Index  int    `json:"index"`
	Name   string `json:"name"`
	Kind   string `json:"kind"`   // IFLA_INFO_KIND; "" for devices without one
	ARPHRD uint16 `json:"arphrd"` // ARPHRD_*, 772 is loopback
	Flags  uint32 `json:"flags"`  // IFF_*
	MTU    int    `json:"mtu"`    // bytes
	State  uint8  `json:"state"`  // IF_OPER_*
	Master int    `json:"master"` // index of bond, bridge, team or VRF it belongs to; 0: none
	Parent int    `json:"parent"` // IFLA_LINK: index of the device below (or the veth peer); 0: none
	// ParentN is the namespace Parent is in: "" the link's own, "nsN" another,
	// "ns0" the probed one as seen from another, "?" one that cannot be named.
	ParentN string `json:"parent_n"`
	Qdisc   string `json:"qdisc"`
	XDP     string `json:"xdp"` // "", "native", "generic", "offloaded", "multiple"
	// TCIngress and TCEgress say what may redirect, drop or change packets that
	// the device receives and sends: "filter" (tc), "tcx" or "netkit" (BPF); ""
	// is nothing, "?" could not be told (BPF takes CAP_SYS_ADMIN).
	TCIngress string `json:"tc_ingress"`
	TCEgress  string `json:"tc_egress"`
	HasDev    bool   `json:"hasdev"` // a bus device stands behind it
	Driver    string `json:"driver"`
	Bus       string `json:"bus"`

	GSOMaxBytes uint32 `json:"gso_max_bytes"`
	GSOMaxSegs  uint32 `json:"gso_max_segs"`

	// Attributes of stacked devices; zero where they do not apply.
	BondMode    int    `json:"bond_mode"`   // -1: not a bond
	BondActive  int    `json:"bond_active"` // index of the active port; 0: none or all
	TeamActive  int    `json:"team_active"` // index of the active port where it can be told
	VlanID      int    `json:"vlan_id"`
	MacvlanMode uint32 `json:"macvlan_mode"`         // MACVLAN_MODE_*, 0: not a macvlan
	TunLocal    string `json:"tun_local" addr:"ip"`  // outer source of a tunnel
	TunRemote   string `json:"tun_remote" addr:"ip"` // outer destination; "" when it is per peer or per route
	TunPort     int    `json:"tun_port"`             // outer UDP destination port
	TunCsum     *bool  `json:"tun_csum"`             // the tunnel computes an outer checksum
	TunTap      string `json:"tun_tap"`              // "tun" or "tap" for kind tun
	MAC         string `json:"mac" addr:"mac"`       // pseudonym in a record made without addresses

	Features      map[string]FeatureState `json:"features"`
	FeaturesError string                  `json:"features_error,omitempty"` // errno name, or text
	// Source of Features: "ETHTOOL_GFEATURES", "legacy ioctls" or "".
	FeaturesSource string `json:"features_source"`
}

// PathQuery is a question for the route to one destination.
type PathQuery struct {
	Asked string `json:"asked" addr:"host"` // as the user wrote it
	Host  string `json:"host" addr:"host"`  // without the port
	Addr  string `json:"addr" addr:"ip"`    // the address that was taken, "" when none was found
	Port  uint16 `json:"port"`              // 0: none given
	From  string `json:"from" addr:"ip"`    // source address asked for, or ""
	Error string `json:"error,omitempty"`

	// Addrs are all addresses the name has, in the order in which they would
	// be tried; empty if Host is an address.
	Addrs []string `json:"addrs" addr:"ip"`
	// UID is the user whose sockets the route was asked for: rules may route
	// by user.
	UID uint32 `json:"uid"`
	// NFQueues is the number of netfilter queues a program listens on, nil if
	// it could not be read.
	NFQueues *int `json:"nf_queues"`
	// IPsecTCP and IPsecUDP say what IPsec policies do to packets sent to
	// Addr: "none", "applies" (they are transformed), "blocks", "likely" (it
	// depends, or there is a key daemon and policies may not be read),
	// "unread", or "" if nobody looked.
	IPsecTCP string `json:"ipsec_tcp"`
	IPsecUDP string `json:"ipsec_udp"`
}

// RouteQuery is what RTM_GETROUTE is asked.
type RouteQuery struct {
	Net   string `json:"net"` // Network.ID it is asked in
	Dst   string `json:"dst" addr:"ip"`
	Src   string `json:"src,omitempty" addr:"ip"`
	OIF   int    `json:"oif,omitempty"`
	IIF   int    `json:"iif,omitempty"` // as if a packet came in on this device; 0: sent from here
	Mark  uint32 `json:"mark,omitempty"`
	UID   uint32 `json:"uid,omitempty"`
	HasID bool   `json:"has_uid,omitempty"`
	Proto uint8  `json:"proto,omitempty"` // IPPROTO_TCP or IPPROTO_UDP
	Port  uint16 `json:"port,omitempty"`  // destination port
	Match bool   `json:"match,omitempty"` // for the route with all its next hops, not for one packet's way
}

// RouteAnswer is the kernel's answer to one query.
type RouteAnswer struct {
	Query   RouteQuery `json:"query"`
	Errno   string     `json:"errno,omitempty"` // "ENETUNREACH"
	Type    string     `json:"type"`            // "unicast", "local", "broadcast", "blackhole", ...
	OIF     int        `json:"oif"`
	Gateway string     `json:"gateway" addr:"ip"`
	PrefSrc string     `json:"prefsrc" addr:"ip"`
	MTU     int        `json:"mtu"`   // RTAX_MTU, 0: the device's
	Encap   string     `json:"encap"` // lightweight tunnel: "mpls", "ip", "seg6", ... or ""
	// NextHopMAC is the neighbour's link-layer address where it is known.
	NextHopMAC string `json:"nexthop_mac" addr:"mac"`
	// Forwarding: the namespace forwards packets of the address family; set
	// for queries with an IIF, nil if it could not be read.
	Forwarding *bool `json:"forwarding,omitempty"`
	// NextHops are those of a route with several, for queries with Match.
	NextHops []NextHop `json:"next_hops"`
}

// NextHop is one of several ways that a route may take.
type NextHop struct {
	OIF     int    `json:"oif"`
	Gateway string `json:"gateway" addr:"ip"`
	Encap   string `json:"encap"`
}

// NeighbourQuery asks for the link-layer address of Addr on device Dev or, if
// MAC is given, where the bridge or VXLAN device Dev sends frames for it.
type NeighbourQuery struct {
	Net  string `json:"net"` // Network.ID
	Dev  int    `json:"dev"`
	Addr string `json:"addr,omitempty" addr:"ip"`
	MAC  string `json:"mac,omitempty" addr:"mac"`
}

// NeighbourAnswer is what RTM_GETNEIGH said. Nothing is resolved for it: a
// neighbour nobody talked to lately is ENOENT.
type NeighbourAnswer struct {
	Query NeighbourQuery `json:"query"`
	Errno string         `json:"errno,omitempty"` // "ENOENT": not known
	MAC   string         `json:"mac" addr:"mac"`  // "" while it is not resolved
	Port  int            `json:"port"`            // index of the bridge's port, or of the bridge for its own address
	Dst   string         `json:"dst" addr:"ip"`   // address of the remote VXLAN end
}

// TapFacts are the packet sockets that were found.
type TapFacts struct {
	Taps []TapFact `json:"taps"`
	// GlobalList: a socket bound to no device sees packets of every namespace
	// (the any-device list of the kernel is one for the host); nil: could not tell.
	GlobalList       *bool    `json:"global_list"`
	GlobalListSource string   `json:"global_list_source"`
	NamespacesSeen   int      `json:"namespaces_seen"`   // including our own
	NamespacesHidden int      `json:"namespaces_hidden"` // exist, but could not be looked into
	Hidden           []string `json:"hidden"`            // labels of those, where they have one
	Complete         bool     `json:"complete"`          // the own namespace was read in full
	Errors           []string `json:"errors"`
}

// TapFact is one packet socket.
type TapFact struct {
	Net            string `json:"net"`    // Network.ID, or a label "nsN"
	Device         string `json:"device"` // "" any
	Ifindex        int    `json:"ifindex"`
	Protocol       uint16 `json:"protocol"` // host byte order; 3 is ETH_P_ALL
	Running        bool   `json:"running"`
	Inode          uint64 `json:"inode"`
	UID            uint32 `json:"uid"` // of the socket's owner
	PID            int    `json:"pid"`
	Comm           string `json:"comm"`
	IgnoreOutgoing *bool  `json:"ignore_outgoing"` // PACKET_IGNORE_OUTGOING; nil: could not tell
	Handler        string `json:"handler"`         // kernel function in /proc/net/ptype, for taps that are no socket
}

// LimitFacts are resource limits of the process that matters.
type LimitFacts struct {
	PID          int     `json:"pid"` // 0: this process
	UID          uint32  `json:"uid"` // real user id, whose locked memory the kernel counts
	HasUID       bool    `json:"has_uid"`
	Hypothetical bool    `json:"hypothetical"` // UID and limits are of a service that does not run yet
	PageSize     int     `json:"page_size"`    // bytes; locked memory is counted in pages
	Memlock      *Rlimit `json:"memlock"`      // nil: could not be read
	Nofile       *Rlimit `json:"nofile"`
	VmLckBytes   *uint64 `json:"vm_lck_bytes"`
	VmPinBytes   *uint64 `json:"vm_pin_bytes"`
	// OthersPinBytes is the VmPin of all other processes of the user that could
	// be seen; nil: not looked at.
	OthersPinBytes *uint64           `json:"others_pin_bytes"`
	CapIPCLock     *bool             `json:"cap_ipc_lock"`   // effective
	CapPipe        *bool             `json:"cap_pipe"`       // CAP_SYS_RESOURCE: fs.pipe-max-size does not bind
	CapPipePages   *bool             `json:"cap_pipe_pages"` // that or CAP_SYS_ADMIN: fs.pipe-user-pages-* do not bind
	InitUserNS     *bool             `json:"init_user_ns"`
	Groups         []int             `json:"groups"`
	Seccomp        string            `json:"seccomp"`
	Sysctls        map[string]string `json:"sysctls"` // limits by dotted name, as that process sees them
	// OptmemFound is net.core.optmem_max found by trial, where it could not be
	// read; at its bound of 256 KiB it is a least value. Nil: not tried.
	OptmemFound *uint64 `json:"optmem_found"`
	// CompletionBytes is the option memory that one completion takes until it is
	// read; nil: could not be measured.
	CompletionBytes *uint64  `json:"completion_bytes"`
	Errors          []string `json:"errors"`
}

// Rlimit is a soft and hard resource limit. ^uint64(0) is unlimited.
type Rlimit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// DirFacts describes a directory that files are served from.
type DirFacts struct {
	Path         string   `json:"path" addr:"path"` // as asked; a record keeps it only with addresses
	FSType       string   `json:"fs_type"`
	FSMagic      int64    `json:"fs_magic"`
	Mount        string   `json:"mount" addr:"path"`
	Options      []string `json:"options" addr:"mount option"`       // of the mount
	SuperOptions []string `json:"super_options" addr:"mount option"` // of the file system, whatever it is mounted as
	// Outcomes, in this order: "dir.sendfile" and "dir.splice" with Seen
	// "equal", "differ", "refused" and "changed" (files) and "bytes"; "reflink",
	// "file.lease" and "dir.resend" with Seen "equal" or "held" and "stale".
	Outcomes        []Outcome `json:"outcomes"`
	FilesSeen       int       `json:"files_seen"`   // regular files, other entries not counted
	More            bool      `json:"more"`         // there are more than were seen
	FilesDenied     int       `json:"files_denied"` // could not be opened
	FilesLooked     int       `json:"files_looked"` // opened: FileBytes, CacheBytes, Immutable and DAX are of these
	FilesTried      int       `json:"files_tried"`  // read and sent
	FileBytes       uint64    `json:"file_bytes"`
	CacheKnownBytes uint64    `json:"cache_known_bytes"` // of FileBytes, those for which CacheBytes tells
	CacheBytes      uint64    `json:"cache_bytes"`       // resident in the page cache
	CacheSource     string    `json:"cache_source"`      // "cachestat", "mincore", "cachestat, mincore", or ""
	Immutable       int       `json:"immutable"`         // files that cannot change: chattr +i, fs-verity
	DAX             int       `json:"dax"`               // files without page cache
	Error           string    `json:"error,omitempty"`   // why nothing was looked at
	Errno           string    `json:"errno,omitempty"`
	Errors          []string  `json:"errors"` // what else could not be read
}
