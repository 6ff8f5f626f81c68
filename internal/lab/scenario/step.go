package scenario

import (
	"fmt"
	"time"
)

// The places. Each is the first step of a set-up.

// Wire is a veth pair whose far end takes all packets and delivers none: the kernel
// copies nothing there, as with a network card that has scatter-gather and checksum
// offload. The sender's device is lab0, of 1500 bytes MTU. What is predicted is
// predicted as for such a card, since the far end cannot be looked at.
type Wire struct{}

// Loopback is 127.0.0.1, where a program reads.
type Loopback struct{}

// OwnAddress is an address of the sender's own, of a device ifb0.
type OwnAddress struct{}

// Veth is a veth pair: v0 at the sender, v1 at the peer, where a program reads.
type Veth struct{}

// Routed is two veth pairs with a router between: v0 at the sender, r0 and r1 at the
// router, v1 at the peer, where a program reads.
type Routed struct{}

// Bridge is a bridge br0 of the sender's, with the port v0 that leads to v1 at the
// peer, where a program reads.
type Bridge struct{}

// Macvlan is a macvlan mv0 of the sender's on lab0 of a [Wire].
type Macvlan struct{}

// Tun is a tun device tun0 of the sender's, which a program reads.
type Tun struct{}

// Swallow is a device ifb0 of the sender's to which nothing was redirected: it frees
// what it is given (ifb_xmit).
type Swallow struct{}

func (Wire) String() string {
	return "a veth pair lab0 between two namespaces, whose far end frees what comes"
}
func (Loopback) String() string {
	return "a namespace with lo"
}
func (OwnAddress) String() string { return "a namespace with a device ifb0 that has an address" }
func (Veth) String() string       { return "a veth pair v0 - v1 between two namespaces" }
func (Routed) String() string {
	return "three namespaces, the middle one a router, joined by veth pairs v0 - r0 and r1 - v1"
}
func (Bridge) String() string {
	return "a bridge br0 with the port v0 of a veth pair v0 - v1 between two namespaces"
}
func (Macvlan) String() string {
	return "a macvlan mv0 on lab0, one end of a veth pair between two namespaces, whose far end frees what comes"
}
func (Tun) String() string     { return "a namespace with a tun device tun0 that a program reads" }
func (Swallow) String() string { return "a namespace with a device ifb0 that frees what it is given" }

// Where says in which namespace of a place a step is done.
type Where string

// The namespaces of a place.
const (
	AtSender Where = ""
	AtRouter Where = "router"
	AtPeer   Where = "peer"
)

func (w Where) String() string {
	if w == AtSender {
		return "sender"
	}
	return string(w)
}

// Off switches a feature of a device off, by the name that the kernel has for it.
type Off struct {
	At      Where  `json:"at,omitzero"`
	Device  string `json:"device"`
	Feature string `json:"feature"`
}

func (o Off) String() string {
	return fmt.Sprintf("switch %s of %s at the %s off", o.Feature, o.Device, o.At)
}

// Tap opens a packet socket.
type Tap struct {
	At             Where  `json:"at,omitzero"`
	Device         string `json:"device,omitzero"`   // "": any, which on kernels to 6.12 is any of all namespaces
	Protocol       uint16 `json:"protocol,omitzero"` // 0 is all, ETH_P_ALL
	IgnoreOutgoing bool   `json:"ignore_outgoing,omitzero"`
}

func (t Tap) String() string {
	dev, what := t.Device, ""
	if dev == "" {
		dev = "any device"
	}
	if t.Protocol != 0 {
		what += fmt.Sprintf(" for protocol %#04x", t.Protocol)
	}
	if t.IgnoreOutgoing {
		what += " with PACKET_IGNORE_OUTGOING"
	}
	return fmt.Sprintf("open a packet socket on %s at the %s%s", dev, t.At, what)
}

// XDP attaches a program that lets everything pass to what a device receives.
type XDP struct {
	At      Where  `json:"at,omitzero"`
	Device  string `json:"device"`
	Generic bool   `json:"generic,omitzero"` // not by the driver
}

func (x XDP) String() string {
	mode := "native"
	if x.Generic {
		mode = "generic"
	}
	return fmt.Sprintf("attach a %s XDP program to %s at the %s", mode, x.Device, x.At)
}

// Netem delays what a device of the sender's sends.
type Netem struct {
	Device string        `json:"device"`
	Delay  time.Duration `json:"delay_ns"`
}

func (n Netem) String() string {
	return fmt.Sprintf("delay what %s sends by %v (netem)", n.Device, n.Delay)
}

// TokenBucket limits what a device of the sender's sends. What is larger than Burst
// is cut into packets before (tbf_segment).
type TokenBucket struct {
	Device string `json:"device"`
	Rate   uint64 `json:"rate_bytes_per_s"`
	Burst  uint32 `json:"burst_bytes"`
}

// mostWaiting is how many bytes wait in a token bucket.
const mostWaiting = 4 << 20

func (t TokenBucket) String() string {
	return fmt.Sprintf("limit what %s sends to %d bytes a second, %d at once (tbf)", t.Device, t.Rate, t.Burst)
}

// Sysctl sets a sysctl of a namespace, "net.ipv4.tcp_mtu_probing".
type Sysctl struct {
	At    Where  `json:"at,omitzero"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s Sysctl) String() string { return fmt.Sprintf("set %s=%s at the %s", s.Name, s.Value, s.At) }
