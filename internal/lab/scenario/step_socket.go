package scenario

import "fmt"

// Multipath is 127.0.0.1, where a program reads that listens for MPTCP.
type Multipath struct{}

func (Multipath) String() string { return "a namespace with lo, where a program listens for MPTCP" }

// UnixPair is two connected unix sockets. What is sent is changed before the peer
// reads, which shows whether it was copied.
type UnixPair struct{}

func (UnixPair) String() string {
	return "a pair of unix sockets, of which the peer reads after what was sent is changed"
}

// Files is where files are copied, and nothing is sent.
type Files struct{}

func (Files) String() string { return "files without names in the directory for temporary files" }

// Memlock makes the sender an ordinary user with a limit of locked memory.
type Memlock struct {
	Bytes uint64 `json:"bytes"`
}

func (m Memlock) String() string {
	return fmt.Sprintf("send as an ordinary user with RLIMIT_MEMLOCK %d", m.Bytes)
}

// AtFeeder is the namespace of a [Feeder].
const AtFeeder Where = "feeder"

// Feeder is a program in a further namespace that sends to the sender of a [Wire],
// which passes on what comes. Its device is f0.
type Feeder struct{}

func (Feeder) String() string {
	return "a veth pair f0 - f1 from a further namespace, whose program sends to the sender"
}

// Narrow makes the MTU of a device smaller.
type Narrow struct {
	At     Where  `json:"at,omitzero"`
	Device string `json:"device"`
	MTU    int    `json:"mtu"`
}

func (n Narrow) String() string {
	return fmt.Sprintf("set the MTU of %s at the %s to %d", n.Device, n.At, n.MTU)
}

// HugePages puts pages of 2 MiB into the reserve of the machine, and takes them out
// again.
type HugePages struct {
	Pages int `json:"pages"`
}

func (h HugePages) String() string {
	return fmt.Sprintf("have %d huge pages more in the reserve (vm.nr_hugepages)", h.Pages)
}
