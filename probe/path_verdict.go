package probe

import (
	"fmt"
	"slices"
	"strings"
)

// verdict says in one line whether files and memory can go to the destination
// without a copy: the largest TCP transfers decide, or datagrams at the MTU
// where there is no TCP.
func (p *pathJudge) verdict(r *PathReport) Verdict {
	to := p.q.Host
	if p.blocked != "" {
		return Verdict{Status: Fail, Summary: sentence(p.blocked)}
	}
	proto := "tcp"
	if p.route.Type == routeBroadcast || p.route.Type == routeMulticast {
		proto = "udp"
	}
	file := bestOf(r.APIs, proto, "sendfile", "splice")
	mem := bestOf(r.APIs, proto, "msg_zerocopy", "io_uring_send_zc")
	switch {
	case file == ZeroCopyYes && mem == ZeroCopyYes:
		return Verdict{Status: Pass, Summary: fmt.Sprintf("Files and memory can be sent to %s without a copy.", to)}
	case file == ZeroCopyUnknown || mem == ZeroCopyUnknown:
		return Verdict{Status: Unknown, Summary: fmt.Sprintf("Cannot tell whether %s be sent to %s without a copy: %s",
			undecided(file, mem), to, p.doubtOf(r, proto))}
	case file == ZeroCopyYes:
		return Verdict{Status: Warn, Summary: fmt.Sprintf("Files can be sent to %s without a copy, memory cannot: %s.", to, reasonFor(r, proto, "msg_zerocopy"))}
	case mem == ZeroCopyYes:
		return Verdict{Status: Warn, Summary: fmt.Sprintf("Memory can be sent to %s without a copy, files cannot: %s.", to, reasonFor(r, proto, "sendfile"))}
	}
	return Verdict{Status: Fail, Summary: fmt.Sprintf("Nothing can be sent to %s without a copy: %s.", to, reasonFor(r, proto, "sendfile"))}
}

func undecided(file, mem ZeroCopy) string {
	switch {
	case file != ZeroCopyUnknown:
		return "memory can"
	case mem != ZeroCopyUnknown:
		return "files can"
	}
	return "anything can"
}

// bestOf returns the best answer that one of the given calls gets.
func bestOf(rows []APIReport, proto string, apis ...string) ZeroCopy {
	best := ZeroCopyNo
	for _, r := range rows {
		if r.Protocol != proto || !slices.Contains(apis, r.API) {
			continue
		}
		switch r.ZeroCopy {
		case ZeroCopyYes:
			return ZeroCopyYes
		case ZeroCopyUnknown:
			best = ZeroCopyUnknown
		}
	}
	return best
}

// reasonFor says why the largest transfer of a call is copied.
func reasonFor(r *PathReport, proto, api string) string {
	for _, a := range slices.Backward(r.APIs) {
		if a.Protocol != proto || a.API != api || a.ZeroCopy != ZeroCopyNo {
			continue
		}
		if off(a.Supported) {
			return strings.TrimSuffix(lowerFirst(a.Detail), ".")
		}
		for _, c := range a.Causes {
			if k, ok := LookupCause(c.ID); ok && k.Kind == KindCopy {
				return causeText(c)
			}
		}
	}
	return "see the table"
}

// doubtOf says what keeps the verdict from being known.
func (p *pathJudge) doubtOf(r *PathReport, proto string) string {
	for _, a := range r.APIs {
		if a.Protocol == proto && a.ZeroCopy == ZeroCopyUnknown {
			_, why, _ := strings.Cut(a.Detail, "; ")
			if why == "" {
				why = a.Detail
			}
			return why
		}
	}
	return "the table says why."
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// blockers lists what to change, once each, in the order of the table.
func (p *pathJudge) blockers(r *PathReport) []PathBlocker {
	out := []PathBlocker{}
	for _, a := range r.APIs {
		if a.ZeroCopy == ZeroCopyYes || off(a.Supported) {
			continue
		}
		for _, c := range a.Causes {
			k, ok := LookupCause(c.ID)
			if !ok || c.Expected || k.Kind != KindCopy || c.ID == "udp-over-mtu" {
				continue
			}
			if slices.ContainsFunc(out, func(b PathBlocker) bool { return b.ID == c.ID && b.Device == c.Device }) {
				continue
			}
			out = append(out, p.blocker(c, k))
		}
	}
	return out
}

func (p *pathJudge) blocker(c PathCause, k Cause) PathBlocker {
	b := PathBlocker{ID: c.ID, Device: c.Device, Detail: sentence(causeText(c)), Remedy: k.Remedy}
	for _, w := range p.ways {
		for i := range w {
			g := &w[i]
			if g.link == nil || g.link.Name != c.Device {
				continue
			}
			b.NetNS = g.net
			if r := featureRemedy(g.net, g.link, c.ID); r != "" {
				b.Remedy = r
			}
			return b
		}
	}
	return b
}

// featureRemedy is the command that switches on what a device lacks, or why
// none can.
func featureRemedy(net string, l *Link, id string) string {
	var names []string
	short := ""
	switch id {
	case "no-scatter-gather":
		names, short = []string{featSG}, "sg"
	case "no-tx-csum":
		names, short = []string{featCsumGeneric, featCsum4, featCsum6}, "tx"
	default:
		return ""
	}
	for _, n := range names {
		switch s := l.Features[n]; {
		case !s.Available || s.NeverChanged:
		case s.Requested:
			return fmt.Sprintf("it is requested, and driver %s of %s does not grant it: use another device, or send with write", l.Driver, l.Name)
		case net != "":
			return "in " + netName(net) + ": " + ethtoolCommand(l.Name, short)
		default:
			return ethtoolCommand(l.Name, short)
		}
	}
	return fmt.Sprintf("%s cannot do it (fixed off in driver %s): use another device, or send with write", l.Name, l.Driver)
}

// evidence lists what the prediction rests on.
func (p *pathJudge) evidence(ways []way) []Evidence {
	out := []Evidence{}
	seen := map[*Link]bool{}
	forwards := false
	for _, w := range ways {
		for i := range w {
			g := &w[i]
			forwards = forwards || g.kind == legForward
			if g.kind != legSend || seen[g.link] {
				continue
			}
			seen[g.link] = true
			source := g.link.FeaturesSource
			if source == "" {
				source = "ethtool"
			}
			out = append(out, Evidence{Source: source + " " + g.link.Name, Value: featureWords(g)})
		}
	}
	if forwards {
		out = append(out, Evidence{Source: "datagram over lo that IP discards", Value: forwardWords(p.env.forwardCopies)})
	}
	return out
}

func featureWords(g *leg) string {
	if g.link.FeaturesError != "" {
		return g.link.FeaturesError
	}
	return fmt.Sprintf("%s %s, checksum %s, %s %s, %s %s", featSG, onOff(feature(g.link, featSG)),
		onOff(txChecksum(g.link, g.v6)), tsoName(g.v6), onOff(feature(g.link, tsoName(g.v6))),
		featUSO, onOff(feature(g.link, featUSO)))
}

func onOff(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "on"
	}
	return "off"
}

func forwardWords(copies *bool) string {
	switch {
	case copies == nil:
		return "could not tell whether lent pages are copied where packets are forwarded"
	case *copies:
		return "lent pages are copied when packets come in, even if they are forwarded"
	}
	return "lent pages are not copied where packets are only forwarded"
}

// limits says where the view of this machine ends.
func (p *pathJudge) limits(ways []way) []string {
	out := []string{}
	add := func(format string, args ...any) {
		if s := fmt.Sprintf(format, args...); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, w := range ways {
		if len(w) == 0 {
			continue
		}
		switch last := w[len(w)-1]; last.kind {
		case legUnknown:
			add("%s", sentence(last.why))
		case legLeave:
			if why, ok := paravirtual[last.link.Driver]; ok {
				add("%s: %s", last.link.Name, lowerFirst(why))
			}
		case legDrop:
			add("%s swallows every packet: nothing arrives.", last.link.Name)
		case legDeliver:
			if slices.ContainsFunc(w, func(g leg) bool { return g.kind == legTunnel }) {
				add("The other end of the tunnel is in %s; where packets go from there was not followed.", netName(last.net))
			}
		}
	}
	if n := p.q.NFQueues; n != nil && *n > 0 {
		add("A program listens on %d netfilter %s; packets that a rule sends there are copied (nfqueue), and rules were not read.", *n, plural(*n, "queue", "queues"))
	}
	if p.q.IPsecTCP == ipsecUnread {
		add("IPsec policies take CAP_NET_ADMIN to read: one that applies would make the CPU encrypt.")
	}
	return out
}
