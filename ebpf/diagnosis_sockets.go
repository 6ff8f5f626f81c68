package ebpf

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// What makes unread completions worth a word: that the oldest stays unread while
// the program goes on sending, for longer than any program waits.
const (
	undrainedAge   = time.Second
	undrainedSends = 16
)

func (w watchedSocket) who() string { return fmt.Sprintf("%s (pid %d)", w.Comm, w.PID) }

// adviseCompletions is about completions that nobody reads.
func adviseCompletions(f *diagnosisFacts) (advice []Advice, gaps []string) {
	type total struct {
		sockets, unread, memory uint64
		age                     time.Duration
		one                     watchedSocket
	}
	var order []int
	totals := map[int]*total{}
	for _, s := range f.sockets {
		if !s.undrained() {
			continue
		}
		t := totals[s.PID]
		if t == nil {
			t = &total{}
			totals[s.PID] = t
			order = append(order, s.PID)
		}
		t.sockets++
		t.unread += s.unreadIDs()
		t.memory += s.optmem
		if age := s.undrainedFor(); age >= t.age {
			t.age, t.one = age, s
		}
	}
	for _, pid := range order {
		t := totals[pid]
		source := "error queue, looked at in place"
		if !t.one.ids {
			source = "option memory of the sockets"
		}
		on := "a socket"
		if t.sockets > 1 {
			on = fmt.Sprintf("%d sockets", t.sockets)
		}
		a := Advice{
			ID: "undrained-completions", PID: pid, Comm: t.one.Comm, Bytes: t.memory,
			Text: fmt.Sprintf("%s does not read %d completions of MSG_ZEROCOPY on %s: the oldest has been waiting for at least %v, they hold %s of option memory, and the buffers they are about.",
				t.one.who(), t.unread, on, t.age.Round(100*time.Millisecond), size(t.memory)),
			Evidence: []probe.Evidence{{Source: source, Value: fmt.Sprintf("socket %s to %s, inode %d: %s", address(t.one.Local), address(t.one.Remote), t.one.Inode, t.one.waiting())}},
		}
		if !t.one.ids {
			a.Text = fmt.Sprintf("Completions of MSG_ZEROCOPY have been waiting for %s on %s for at least %v, and hold %s of option memory: inferred, for whether it reads them later cannot be seen.",
				t.one.who(), on, t.age.Round(100*time.Millisecond), size(t.memory))
		}
		if l, ok := f.latencies[pid]; ok && l.completed > 0 {
			a.Evidence = append(a.Evidence, latencyEvidence(l))
		}
		advice = append(advice, a)
	}
	return advice, nil
}

func (w watchedSocket) waiting() string {
	if !w.ids {
		return fmt.Sprintf("%d bytes of option memory in use, %d queued, and poll says POLLERR", w.optmem, w.queued)
	}
	return fmt.Sprintf("completions %d to %d are there, send %d is next, %d bytes of option memory in use", w.oldest, w.newest, w.next, w.optmem)
}

// undrained says whether nobody reads the completions of a socket. Where their
// ids are not seen it is inferred from what they hold.
func (w watchedSocket) undrained() bool {
	if w.undrainedFor() < undrainedAge {
		return false
	}
	if w.ids {
		return w.next-w.sentFrom >= undrainedSends || w.optmemMax > 0 && w.optmem > w.optmemMax/2
	}
	return true
}

func (w watchedSocket) undrainedFor() time.Duration {
	if w.ids {
		return w.waited()
	}
	if !w.inferred || w.fullFrom.IsZero() {
		return 0
	}
	return w.last.Sub(w.fullFrom)
}

func latencyEvidence(l latency) probe.Evidence {
	return probe.Evidence{Source: "inet_sk_error_report", Value: fmt.Sprintf(
		"%d completions came within %v (half of them), %v (99 of 100), %v (all) of the send; %d said copied",
		l.completed, l.below(50), l.below(99), l.most, l.copied)}
}

// adviseEarly is about completions that come before the peer has the data.
func adviseEarly(f *diagnosisFacts) (advice []Advice, gaps []string) {
	told := map[int]bool{}
	for _, s := range f.sockets {
		if s.Protocol != "tcp" || s.listens || s.mtuProbing == 0 || told[s.PID] {
			continue
		}
		api := ""
		if s.zerocopy && s.next > 0 {
			api = "MSG_ZEROCOPY"
		}
		for _, fl := range f.flows {
			if fl.Inode == s.Inode && fl.API == APIUringSendZC.String() {
				api = "io_uring SEND_ZC"
			}
		}
		if api == "" {
			continue
		}
		told[s.PID] = true
		advice = append(advice, Advice{
			ID: "early-completion", PID: s.PID, Comm: s.Comm,
			Text: fmt.Sprintf("%s sends with %s where net.ipv4.tcp_mtu_probing is %d: a completion can come before the peer has the data, and a buffer that is used again then changes what is sent.",
				s.who(), api, s.mtuProbing),
			Evidence: []probe.Evidence{
				{Source: "net.ipv4.tcp_mtu_probing", Value: fmt.Sprint(s.mtuProbing)},
				{Source: "the socket", Value: fmt.Sprintf("%s to %s, inode %d, %s in use", address(s.Local), address(s.Remote), s.Inode, api)},
			},
		})
	}
	return advice, nil
}

// adviseTaps names who captures, and tells whether the wire has suffered.
func adviseTaps(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, fl := range f.flows {
		for _, c := range fl.Causes {
			if c.ID != "packet-tap" {
				continue
			}
			advice = append(advice, adviseTap(f, fl, c))
		}
	}
	if f.tapsErr != nil {
		gaps = append(gaps, fmt.Sprintf("not all who capture packets may be found: %v", f.tapsErr))
	}
	return mergeTaps(advice), gaps
}

func adviseTap(f *diagnosisFacts, fl Flow, c Cause) Advice {
	who, seen := "a packet socket that was not found", []probe.Evidence{}
	for _, t := range f.taps[fl.NetNS] {
		if t.CopiesOutgoing != nil && !*t.CopiesOutgoing && c.Mechanism == probe.AtClone || t.Device != "" && t.Device != c.Device {
			continue
		}
		name := tapName(t)
		if len(seen) == 0 {
			who = name
		}
		seen = append(seen, probe.Evidence{Source: "/proc/net/packet", Value: name + ": " + t.Detail})
	}
	a := Advice{
		ID: "packet-tap", PID: fl.PID, Comm: fl.Comm, Device: c.Device, Bytes: c.Bytes,
		Text: fmt.Sprintf("%s captures on %s, and %s (pid %d) pays for it: %s lent to the kernel were copied for the capture.",
			strings.ToUpper(who[:1])+who[1:], c.Device, fl.Comm, fl.PID, size(c.Bytes)),
		Evidence: seen,
	}
	if who[0] != 'a' { // a name stays as it is
		a.Text = who + a.Text[len(who):]
	}
	if c.Mechanism == probe.AtClone {
		a.Text += " The copy is the capture's: the device still sent the program's own memory, even where completions say copied."
		if l := f.latencies[fl.PID]; l.copied > 0 {
			a.Evidence = append(a.Evidence, probe.Evidence{Source: "completions",
				Value: fmt.Sprintf("%d of %d say SO_EE_CODE_ZEROCOPY_COPIED; at the door of %s the pages were the program's", l.copied, l.completed, c.Device)})
		}
	}
	return a
}

func tapName(t probe.TapReport) string {
	switch {
	case t.PID != 0:
		return fmt.Sprintf("%s (pid %d)", t.Comm, t.PID)
	case t.Handler != "":
		return "kernel handler " + t.Handler
	}
	return "a packet socket of an unknown process"
}

// adviseCaptures tells of packet sockets that take what is sent without having it
// copied for them: they copy some of each packet themselves.
func adviseCaptures(f *diagnosisFacts) (advice []Advice, gaps []string) {
	var names []string // of the captures, as advice
	for _, fl := range f.flows {
		if slices.ContainsFunc(fl.Causes, func(c Cause) bool { return c.ID == "packet-tap" }) {
			continue // that says it
		}
		for _, t := range f.taps[fl.NetNS] {
			const all = 3 // ETH_P_ALL: others do not see what is sent
			if t.Protocol != all || t.PID == 0 || t.CopiesOutgoing == nil || !*t.CopiesOutgoing || t.Device != "" && t.Device != fl.Device || fl.Device == "" {
				continue
			}
			if i := slices.IndexFunc(advice, func(a Advice) bool {
				return a.PID == fl.PID && a.Device == fl.Device && a.Evidence[0].Value == tapName(t)+": "+t.Detail
			}); i >= 0 {
				advice[i].Bytes += fl.Bytes
				continue
			}
			advice = append(advice, Advice{
				ID: "tap-capture", PID: fl.PID, Comm: fl.Comm, Device: fl.Device, Bytes: fl.Bytes,
				Evidence: []probe.Evidence{{Source: "/proc/net/packet", Value: tapName(t) + ": " + t.Detail}},
			})
			names = append(names, tapName(t))
		}
	}
	for i, a := range advice {
		advice[i].Text = fmt.Sprintf("%s captures on %s, where %s (pid %d) sent %s: it copies what its filter takes of each packet, up to its snapshot length, and the sender waits for that.",
			names[i], a.Device, a.Comm, a.PID, size(a.Bytes))
	}
	return advice, nil
}

// mergeTaps joins what is said of several flows of one process.
func mergeTaps(all []Advice) (out []Advice) {
next:
	for _, a := range all {
		for i := range out {
			if out[i].PID == a.PID && out[i].Device == a.Device {
				out[i].Bytes += a.Bytes
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// adviseTimestamps tells of completions that say copied although what went out
// was not: the copy was made for the timestamp.
func adviseTimestamps(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, s := range f.sockets {
		l := f.latencies[s.PID]
		if !s.timestamps || !s.zerocopy || l.copied == 0 {
			continue
		}
		for _, fl := range f.flows {
			lent := fl.ZeroCopiedBytes // at the driver's door
			others := false
			for _, c := range fl.Causes {
				if c.ID == "tx-timestamp" {
					lent += c.Bytes
				} else {
					others = true
				}
			}
			if fl.Inode != s.Inode || fl.API != APIZeroCopy.String() || lent*10 < (fl.Bytes-fl.UnknownBytes)*9 || lent == 0 || others {
				continue
			}
			advice = append(advice, Advice{
				ID: "tx-timestamp", PID: s.PID, Comm: s.Comm, Device: fl.Device, Bytes: lent,
				Text: fmt.Sprintf("Completions of %s say copied, but %s went to %s from the program's own memory: the copy is of the packets that carry timestamps back.",
					s.who(), size(lent), fl.Device),
				Evidence: []probe.Evidence{
					latencyEvidence(l),
					{Source: "SO_TIMESTAMPING", Value: "asks for a timestamp of each send; inode " + fmt.Sprint(s.Inode)},
					{Source: "driver's door", Value: fmt.Sprintf("%d of %d bytes in pages of the program", lent, fl.Bytes)},
				},
			})
		}
	}
	return advice, nil
}
