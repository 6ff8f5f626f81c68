package probe

import (
	"fmt"
	"slices"
	"strings"
)

// hopDetail says in one sentence what happens at a hop that its features do
// not tell.
func (p *pathJudge) hopDetail(w way, i int) string {
	g, l := &w[i], w[i].link
	var says []string
	if i+1 < len(w) {
		says = append(says, legSentence(g, &w[i+1]))
	}
	if g.encap != "" {
		says = append(says, tunnelSentence(g))
	}
	switch l.Qdisc {
	case "tbf", "cake", "taprio", "dualpi2":
		says = append(says, "Its queueing discipline "+l.Qdisc+" may cut large packets in software, without a copy.")
	case "netem":
		says = append(says, "Its queueing discipline netem copies packets if it is set to corrupt them.")
	}
	return strings.Join(slices.DeleteFunc(says, func(s string) bool { return s == "" }), " ")
}

func legSentence(g, next *leg) string {
	switch next.kind {
	case legReceive:
		if next.link == g.link {
			return "The packet comes back to this machine."
		}
		return fmt.Sprintf("%s in %s receives the packet.", next.link.Name, netName(next.net))
	case legTunnel:
		return fmt.Sprintf("A %s tunnel to %s.", g.link.Kind, orUnknown(next.dst))
	case legCrypt:
		return "The CPU encrypts every packet."
	case legRead:
		return "A program reads the packets from here: a virtual machine or a VPN."
	case legDrop:
		return "This device swallows every packet."
	case legUnknown:
		return sentence(next.why)
	case legLeave:
		if why, ok := paravirtual[g.link.Driver]; ok {
			return why
		}
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "an address that is not fixed"
	}
	return s
}

func tunnelSentence(g *leg) string {
	switch c := encapChecksum(g); {
	case c == nil:
		return "Whether it computes checksums inside a tunnel is not known."
	case !*c && on(txChecksum(g.link, g.v6)):
		return "It offers no segmentation for " + g.encap + ", so the kernel leaves it no checksum inside the tunnel."
	}
	return ""
}

// paravirtual names drivers whose other end is a hypervisor.
var paravirtual = map[string]string{
	"virtio_net":   "A paravirtual device: this machine avoids its copy, the hypervisor may still make one.",
	"vmxnet3":      "A paravirtual device: this machine avoids its copy, the hypervisor may still make one.",
	"hv_netvsc":    "A paravirtual device: this machine avoids its copy, the hypervisor may still make one.",
	"xen_netfront": "A paravirtual device: this machine avoids its copy, the hypervisor may still make one.",
	"vif":          "A paravirtual device: this machine avoids its copy, the hypervisor may still make one.",
	"ena":          "A virtual function of a cloud's network card: what lies behind it cannot be seen.",
	"gve":          "A virtual device of a cloud: what lies behind it cannot be seen.",
}

// causeText says what a cause does on this path.
func causeText(c PathCause) string {
	dev := c.Device
	switch c.ID {
	case "api-copy":
		return "the call copies into the socket"
	case "read-copy":
		return "the read copies into the program"
	case "no-scatter-gather":
		return dev + " has no scatter-gather"
	case "no-tx-csum":
		return dev + " computes no checksum, and the kernel sums a private copy"
	case "encap-features":
		return dev + " computes no checksum inside this tunnel, and the kernel sums a private copy"
	case "vlan-features":
		return "the device under " + dev + " does not offer it for tagged packets"
	case "udp-over-mtu":
		return "a datagram above the MTU is copied in the call"
	case "udp-linear-head":
		return "this kernel copies the start of each datagram"
	case "udp-splice-copy":
		return "this kernel copies what is spliced to UDP"
	case "packet-tap":
		return "a capture on " + dev + " gets a copy"
	case "tun-tap":
		return "the program behind " + dev + " reads a copy"
	case "loopback-delivery":
		return "the receiver is on this machine, where lent pages are copied"
	case "veth-routed-ingress":
		return "this kernel copies lent pages where a namespace forwards them"
	case "xdp-generic", "veth-xdp":
		return "the XDP program on " + dev + " needs a copy"
	case "driver-bounce":
		return "the driver of " + dev + " copies every frame"
	case "ipsec-sw":
		if dev == "" {
			return "IPsec encrypts into memory of its own"
		}
		return dev + " encrypts into memory of its own"
	case "wireguard", "macsec":
		return dev + " encrypts into memory of its own"
	case "checksum-pass", "udp-splice-csum":
		return "the CPU sums it"
	}
	return c.ID
}

// explainTransfer is the detail of a row.
func explainTransfer(t transfer, d *payload, p *pathJudge) string {
	var copies, passes []string
	for _, c := range d.causes {
		if k, ok := LookupCause(c.ID); ok && k.Kind == KindPass {
			passes = append(passes, causeText(c))
		} else if c.ID != "udp-linear-head" || d.copies > 0 {
			copies = append(copies, causeText(c))
		}
	}
	var b strings.Builder
	switch {
	case d.copies > 0:
		fmt.Fprintf(&b, "Copied %s: %s", times(d.copies), strings.Join(copies, "; "))
	case len(d.unsure) == 0:
		b.WriteString("Not copied")
		if t.source == "file" {
			b.WriteString(": the pages of the file are sent as they are")
		}
	default:
		b.WriteString("Not known")
	}
	if len(d.unsure) > 0 {
		fmt.Fprintf(&b, "; %s", strings.Join(d.unsure, "; "))
	}
	if len(passes) > 0 {
		fmt.Fprintf(&b, "; read %s for a checksum", times(d.passes))
	}
	for _, n := range d.notes {
		fmt.Fprintf(&b, "; %s", n)
	}
	if t.segments {
		b.WriteString("; sent as many datagrams by UDP_SEGMENT")
	}
	if t.api == "splice" && t.source == "socket" && d.copies == 0 {
		b.WriteString("; small packets may be copied once as they leave the receiving socket")
	}
	b.WriteString(".")
	return b.String()
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
