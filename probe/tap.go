package probe

import (
	"fmt"
	"slices"
	"strings"
)

// ethPAll is ETH_P_ALL of linux/if_ether.h. Only packet sockets (and kernel
// handlers) of this protocol are on the lists that dev_queue_xmit_nit hands
// outgoing packets to; every other protocol sees incoming packets alone.
const ethPAll = 3

// judgeTaps says of every packet socket whether it copies packets that leave
// the probed namespace.
func judgeTaps(f *Facts) []TapReport {
	out := make([]TapReport, 0, len(f.Taps.Taps))
	for _, t := range f.Taps.Taps {
		out = append(out, judgeTap(f, t))
	}
	return out
}

func judgeTap(f *Facts, t TapFact) TapReport {
	r := TapReport{Device: t.Device, Protocol: t.Protocol, PID: t.PID, Comm: t.Comm, NetNS: t.Net, Handler: t.Handler}
	if !t.anyDevice() {
		r.Device = t.deviceName() // "" would say any device
	}
	copies, detail := tapCopies(t)
	r.CopiesOutgoing, r.Detail = copies, detail
	if t.Net == "" || (copies != nil && !*copies) {
		return r
	}
	// A tap of another namespace matters here only through the any-device list.
	switch {
	case t.anyDevice() && f.Taps.GlobalList == nil:
		r.CopiesOutgoing = nil
		r.Detail = "sees every packet of namespace " + t.Net + ", and perhaps those sent here: could not tell whether this kernel keeps one any-device list for all namespaces"
	case t.anyDevice() && *f.Taps.GlobalList:
		r.Detail += "; it is in namespace " + t.Net + ", but this kernel has one any-device list for all namespaces"
	default:
		r.CopiesOutgoing = new(false)
		r.Detail = "sees packets of namespace " + t.Net + " only, none sent from this one"
	}
	return r
}

// anyDevice reports whether the tap is bound to no device. A socket whose
// device has gone is bound to index -1, and sees nothing.
func (t TapFact) anyDevice() bool { return t.Device == "" && t.Ifindex == 0 }

// tapCopies says whether a tap gets a copy of what is sent on the devices it
// watches, wherever those are.
func tapCopies(t TapFact) (copies *bool, detail string) {
	no, yes := new(false), new(true)
	where := "every device"
	if !t.anyDevice() {
		where = t.deviceName()
	}
	switch {
	case t.Handler != "" && t.Protocol == ethPAll:
		return yes, "kernel handler " + t.Handler + " receives a copy of every packet sent on " + where
	case !t.Running || t.Protocol == 0:
		return no, "is not attached: receives nothing"
	case t.Protocol != ethPAll:
		return no, fmt.Sprintf("receives incoming packets of protocol 0x%04x only", t.Protocol)
	case t.IgnoreOutgoing == nil:
		return nil, "captures on " + where + "; could not read whether it ignores outgoing packets (PACKET_IGNORE_OUTGOING), root can"
	case *t.IgnoreOutgoing:
		return no, "captures on " + where + ", outgoing packets excepted (PACKET_IGNORE_OUTGOING)"
	}
	return yes, "captures on " + where + ": the kernel copies every zero-copy packet sent there"
}

func (t TapFact) deviceName() string {
	if t.Device == "" {
		return fmt.Sprintf("device index %d", t.Ifindex)
	}
	return t.Device
}

// tapEffect says whether a packet sent on a device is copied for a tap. net is
// the Network.ID of the device's namespace. copies is nil if that cannot be
// told, why is one sentence for either answer, and by holds the taps that copy,
// or, with a nil answer, may copy.
func tapEffect(f *Facts, net, device string) (copies *bool, why string, by []TapReport) {
	var sure, maybe []TapReport
	for _, t := range f.Taps.Taps {
		c, ok := tapOn(f, t, net, device)
		switch {
		case !ok:
		case c == nil:
			maybe = append(maybe, judgeTap(f, t))
		case *c:
			sure = append(sure, judgeTap(f, t))
		}
	}
	switch {
	case len(sure) > 0:
		return new(true), tapNames(sure) + " " + plural(len(sure), "captures", "capture") + " what is sent on " + device, sure
	case len(maybe) > 0:
		return nil, "could not tell whether " + tapNames(maybe) + " " + plural(len(maybe), "copies", "copy") + " what is sent on " + device, maybe
	}
	if gap := tapGap(f, net); gap != "" {
		return nil, gap, nil
	}
	return new(false), "no packet socket copies what is sent on " + device, nil
}

// tapOn says whether tap t copies what is sent on a device; ok is false if the
// two have nothing to do with each other.
func tapOn(f *Facts, t TapFact, net, device string) (copies *bool, ok bool) {
	copies, _ = tapCopies(t)
	if copies != nil && !*copies {
		return nil, false
	}
	switch {
	case t.Net == net && t.Device == "" && t.Ifindex > 0:
		return nil, true // bound to a device whose name is not known: perhaps this one
	case t.Net == net:
		return copies, t.anyDevice() || t.Device == device
	case !t.anyDevice():
		return nil, false
	case f.Taps.GlobalList == nil:
		return nil, true
	}
	return copies, *f.Taps.GlobalList
}

// tapGap says what was not seen that could hide a tap from namespace net, or
// "" if nothing was.
func tapGap(f *Facts, net string) string {
	t := &f.Taps
	switch {
	case net == "" && !t.Complete:
		return "the packet sockets of this namespace could not be read in full" + because(t.Errors)
	case slices.Contains(t.Hidden, net):
		return "the packet sockets of namespace " + net + " could not be read"
	case t.GlobalList != nil && !*t.GlobalList:
		return ""
	case t.NamespacesHidden == 0:
		return ""
	}
	hidden := fmt.Sprintf("%d network %s could not be looked into", t.NamespacesHidden,
		plural(t.NamespacesHidden, "namespace", "namespaces"))
	if t.GlobalList == nil {
		return hidden + ", and could not tell whether a capture on any device there sees packets sent here"
	}
	return hidden + ", and on this kernel a capture on any device there copies packets sent here"
}

func because(errs []string) string {
	if len(errs) == 0 {
		return ""
	}
	return ": " + errs[0]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// tapNames names up to three taps and counts the rest.
func tapNames(ts []TapReport) string {
	const most = 3
	var names []string
	for _, t := range ts[:min(len(ts), most)] {
		names = append(names, tapName(t))
	}
	if n := len(ts) - most; n > 0 {
		return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", n)
	}
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

func tapName(t TapReport) string {
	switch {
	case t.PID != 0 && t.Comm != "":
		return fmt.Sprintf("%s (pid %d)", t.Comm, t.PID)
	case t.PID != 0:
		return fmt.Sprintf("pid %d", t.PID)
	case t.Handler != "":
		return "kernel handler " + t.Handler
	case t.NetNS != "":
		return "a packet socket of namespace " + t.NetNS
	}
	return "a packet socket of an unknown process"
}
