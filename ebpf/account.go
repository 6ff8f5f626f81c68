package ebpf

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

type flowKey struct {
	socket uint64
	api    API
}

type causeKey struct {
	id        string
	mechanism probe.Mechanism
	device    string
}

// account adds up one flow.
type account struct {
	sent        uint64
	uncopied    uint64 // at the door of the first device
	copied      uint64 // there
	odd         uint64 // there, in memory that tells nothing
	lost        uint64 // uncopied at the door, copied behind it
	underWay    uint64 // uncopied at the door, and may yet be copied
	dropped     uint64 // uncopied at the door, and dropped on this machine
	stamped     uint64 // uncopied at the door, and may be copied to come back with a timestamp
	decided     uint64 // of those: copied, for that or otherwise
	absorbed    uint64 // of those under way: arrived in other packets
	again       uint64
	devices     deviceList
	causes      causeList
	unexplained uint64 // copied, and nothing says why
	foreign     uint64 // in memory that this API does not send from
}

func newAccount() *account {
	return &account{}
}

// udp is filled in by the account: an observation does not know its socket.
func (o observation) udp() bool { return o.evidence.has(seenDatagram) }

// seenDatagram marks observations of UDP sockets. The kernel side does not use
// the bit.
const seenDatagram evidence = 1 << 31

// seenSendpage marks those of kernels that splice by sendpage; it is not of the
// kernel side either.
const seenSendpage evidence = 1 << 30

// summarize judges what a trace has seen. It takes the counts out of it: there may
// be many, and nobody needs them after.
func summarize(all *observations) []Flow {
	if all.facts != nil {
		return summarizeFacts(all)
	}
	sockets := make(map[uint64]Socket, len(all.sockets))
	for _, s := range all.sockets {
		sockets[s.ID] = s
	}
	b := newBook()
	apis := soleAPIs(all.counts)
	unsummed := leftToDevice(all.counts)
	for _, o := range all.counts {
		s, ok := sockets[o.socket]
		if !ok {
			continue
		}
		if s.Protocol == "udp" {
			o.evidence |= seenDatagram
			if o.api == APIUnknown {
				o.api = apis[o.socket]
			}
			if o.place == placeLower && unsummed[o.socket] {
				o.evidence |= seenPartial
			}
		}
		b.add(o)
		if s.Protocol == "mptcp" && o.place == placeSent {
			b.add(o.multipath())
		}
	}
	if all.callsMix {
		disown(b.whole)
		disown(b.sample)
	}
	all.counts = nil
	var flows []Flow
	if all.sampled.windows > 0 {
		flows = b.extrapolate(sockets, all.sampled)
	} else {
		for key, a := range b.whole {
			flows = append(flows, a.flow(key.api, sockets[key.socket]))
		}
	}
	flows = slices.DeleteFunc(flows, func(f Flow) bool { return f.Bytes == 0 && len(f.Causes) == 0 })
	sortFlows(flows)
	return flows
}

// foreign says whether payload came to a device in memory that its API does not
// send from, and nothing says why: another call has sent it.
func (o observation) foreign() bool {
	if o.api.copies() {
		return o.memory.lent()
	}
	id, _ := sendCause(o)
	return o.api != APIUnknown && o.memory.kernels() && id == "" && o.evidence&sourceMask != sourceSocket
}

// disown takes from each API what another must have sent, which one is not known.
func disown(accounts map[flowKey]*account) {
	for key, a := range maps.Clone(accounts) {
		from := &a.copied
		if key.api.copies() {
			from = &a.uncopied
		}
		n := min(a.foreign, a.sent, *from)
		if n == 0 {
			continue
		}
		unknown := flowKey{socket: key.socket}
		if accounts[unknown] == nil {
			accounts[unknown] = newAccount()
		}
		a.sent -= n
		*from -= n
		accounts[unknown].sent += n
		if key.api.copies() {
			accounts[unknown].uncopied += n
		} else {
			accounts[unknown].copied += n
		}
	}
}

// soleAPIs returns, by socket, the API by which it was given bytes where that is one
// alone. Datagrams that leave in no send call, as those do that UDP_CORK held back, are
// of that one.
func soleAPIs(counts []observation) map[uint64]API {
	sole := map[uint64]API{}
	for _, o := range counts {
		if o.place != placeSent {
			continue
		}
		if was, ok := sole[o.socket]; ok && was != o.api {
			sole[o.socket] = APIUnknown
			continue
		}
		sole[o.socket] = o.api
	}
	return sole
}

// leftToDevice returns the sockets of which datagrams came to their first device before
// they were summed. Behind the device that sums them nothing tells.
func leftToDevice(counts []observation) map[uint64]bool {
	left := map[uint64]bool{}
	for _, o := range counts {
		if o.place == placeQueued && o.evidence.has(seenPartial) {
			left[o.socket] = true
		}
	}
	return left
}

func sortFlows(flows []Flow) {
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(b.CopiedBytes, a.CopiedBytes), cmp.Compare(b.Bytes, a.Bytes),
			cmp.Compare(a.PID, b.PID), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.API, b.API))
	})
}

func (a *account) add(o observation) {
	switch o.place {
	case placeSent:
		a.sent += o.bytes
	case placeQueued:
		a.devices.add(o.device.Name, o.bytes)
		if o.foreign() {
			a.foreign += o.bytes
		}
	case placeDoor:
		switch {
		case o.memory == memoryUnknown || o.direct():
			a.odd += o.bytes
		case o.memory.kernels() && (o.evidence&sourceMask != sourceSocket || o.flattened()):
			a.copied += o.bytes
		default:
			a.uncopied += o.bytes
			if o.evidence.has(seenStamp|seenLent) && !o.evidence.has(seenTap) {
				a.stamped += o.bytes
			}
		}
	case placeMultipath:
		a.copied += o.bytes
	case placeAgain:
		a.again += o.bytes
	case placeAbsorbed:
		a.absorbed += o.bytes
	case placeUnderWay:
		if !o.evidence.has(seenTap) {
			a.underWay += o.lent
		}
	}
	if o.place == placeAfter && o.evidence&metMask == metDropped && o.memory.lent() && o.evidence.has(seenLent) && !o.evidence.has(seenTap) {
		a.dropped += o.lent // it never came to where that is decided
	}
	for _, f := range judge(o) {
		a.find(f, o)
		if o.evidence.has(seenStamp) {
			a.decided += f.lost
		}
	}
}

func (a *account) find(f finding, o observation) {
	a.lost += f.lost
	if f.id == "" {
		a.unexplained += f.bytes
		return
	}
	key := causeKey{f.id, f.mechanism, f.device}
	c := a.causes.at(key)
	if c.ID == "" {
		entry, _ := probe.LookupCause(f.id)
		*c = Cause{ID: f.id, Kind: entry.Kind, Mechanism: f.mechanism, Device: f.device, Expected: entry.Expected}
	}
	c.Bytes += f.bytes
	c.Packets += o.packets
	if o.stack != 0 {
		if c.stacks == nil {
			c.stacks = map[uint32]uint64{}
		}
		c.stacks[o.stack] += o.packets
	}
}

// flow balances the account. What the kernel accepted is what it is about: more
// at the door than was accepted is left out, less is unknown.
func (a *account) flow(api API, s Socket) Flow {
	lost := min(a.lost, a.uncopied)
	copied := min(a.copied+lost, a.sent)
	pending := min(a.dropped+a.stamped-min(a.decided, a.stamped)+a.underWay-min(a.absorbed, a.underWay), a.uncopied-lost)
	uncopied := min(a.uncopied-lost-pending, a.sent-copied)
	f := Flow{
		PID: s.PID, Comm: s.Comm, API: api.String(), FixedBuffers: api == APIUringSendZCFixed,
		Protocol: s.Protocol, Local: address(s.Local), Remote: address(s.Remote), Device: a.device(),
		Bytes: a.sent, ZeroCopiedBytes: uncopied, CopiedBytes: copied, UnknownBytes: a.sent - copied - uncopied,
		RetransmittedData: a.again, Inode: s.Inode, UID: s.UID, Cgroup: s.Cgroup, NetNS: s.NetNS,
	}
	f.Causes = sortCauses(a.causes)
	return f
}

func sortCauses(all causeList) []Cause {
	causes := make([]Cause, 0, len(all))
	for _, c := range all {
		causes = append(causes, c.Cause)
	}
	slices.SortFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.Mechanism, b.Mechanism), cmp.Compare(a.Device, b.Device))
	})
	return causes
}

func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// device is the first device that most of the flow went to.
func (a *account) device() string {
	var most string
	var best uint64
	for _, d := range a.devices {
		if most == "" || d.bytes > best || d.bytes == best && d.name < most {
			most, best = d.name, d.bytes
		}
	}
	return most
}

// Most flows have one device and one or two causes: lists take a tenth of the
// room of maps, and there are as many of them as flows.
type deviceList []struct {
	name  string
	bytes uint64
}

func (l *deviceList) add(name string, bytes uint64) {
	for i := range *l {
		if (*l)[i].name == name {
			(*l)[i].bytes += bytes
			return
		}
	}
	*l = append(*l, struct {
		name  string
		bytes uint64
	}{name, bytes})
}

type causeList []keyedCause

type keyedCause struct {
	key causeKey
	Cause
}

// at returns the cause of a key, a new one if there is none.
func (l *causeList) at(key causeKey) *Cause {
	for i := range *l {
		if (*l)[i].key == key {
			return &(*l)[i].Cause
		}
	}
	*l = append(*l, keyedCause{key: key})
	return &(*l)[len(*l)-1].Cause
}

// total adds up causes over flows.
func total(flows []Flow) []CauseTotal {
	sums := map[string]CauseTotal{}
	for _, f := range flows {
		for _, c := range f.Causes {
			t := sums[c.ID]
			t.ID, t.Kind, t.Expected = c.ID, c.Kind, c.Expected
			t.Bytes += c.Bytes
			t.Packets += c.Packets
			sums[c.ID] = t
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b CauseTotal) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID))
	})
}
