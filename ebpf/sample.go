package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A book holds what was seen of each flow: while everything was looked at, and
// in samples. How much TCP sockets sent is known of all of the time.
type book struct {
	whole  map[flowKey]*account
	sample map[flowKey]*account
	unseen map[uint64]uint64 // by socket, of whichever API
}

func newBook() *book {
	return &book{whole: map[flowKey]*account{}, sample: map[flowKey]*account{}, unseen: map[uint64]uint64{}}
}

func (b *book) add(o observation) {
	if o.place == placeUnseen {
		b.unseen[o.socket] += o.bytes
		return
	}
	into := b.whole
	if o.evidence.has(seenSampled) {
		into = b.sample
		o.evidence &^= seenSampled
	}
	key := flowKey{o.socket, o.api}
	if into[key] == nil {
		into[key] = newAccount()
	}
	into[key].add(o)
}

// A peer is what connections of one process have in common: the service that
// they are made to, or that they come to.
type peer struct {
	pid    int
	netns  uint32
	remote netip.AddrPort
	local  netip.AddrPort
}

func peersOf(s Socket) []peer {
	return []peer{
		{pid: s.PID, netns: s.NetNS, remote: s.Remote},
		{pid: s.PID, netns: s.NetNS, local: s.Local},
	}
}

// extrapolate takes what was seen of a socket for the rest of it, too. Of sockets
// of which nothing was seen, it takes what was seen of others of the same process
// and service, if they are not few: where those differ it says so of all of them
// together, and of no single one. What has no such sample is unknown. The book is empty then: of many
// thousand sockets it is large.
func (b *book) extrapolate(sockets map[uint64]Socket, of sampling) []Flow {
	ids := map[uint64]bool{}
	samples := map[uint64]map[API]*account{}
	pools := map[peer]map[API]*account{}
	for key, a := range b.sample {
		ids[key.socket] = true
		put(samples, key, a)
		for _, p := range peersOf(sockets[key.socket]) {
			join(pools, p, key.api, a)
		}
	}
	met := map[peer]int{} // of how many sockets there is a sample
	for id := range samples {
		for _, p := range peersOf(sockets[id]) {
			met[p]++
		}
	}
	whole := map[uint64]map[API]*account{}
	for key, a := range b.whole {
		ids[key.socket] = true
		put(whole, key, a)
	}
	for id := range b.unseen {
		ids[id] = true
	}
	b.sample, b.whole = nil, nil
	mixed := mixedPools(samples, pools, sockets)
	together := map[peer]*group{}
	var flows []Flow
	for id := range ids {
		s := sockets[id]
		t := take{whole: whole[id], sample: samples[id], unseen: b.unseen[id]}
		if s.Protocol != "tcp" && of.watched > 0 {
			t.unseen = scale(sum(t.sample, (*account).accepted), float64(of.of-of.watched)/float64(of.watched))
		}
		t.model = firstSeen(t.sample, t.whole)
		for _, p := range peersOf(s) {
			if t.model != nil || t.unseen == 0 {
				break
			}
			if met[p] < speakLeast {
				continue
			}
			if t.model = firstSeen(pools[p]); t.model != nil && mixed[p] {
				together[p] = together[p].with(s, t.unseen)
				t.unseen, t.model = 0, nil
			}
		}
		flows = append(flows, t.flows(s)...)
		delete(whole, id)
		delete(samples, id)
	}
	for p, g := range together {
		flows = append(flows, take{unseen: g.unseen, model: pools[p]}.flows(g.socket(p))...)
	}
	return flows
}

// A group is connections of which nothing was seen but how much they sent.
type group struct {
	one    Socket // of them
	unseen uint64
}

func (g *group) with(s Socket, unseen uint64) *group {
	if g == nil {
		g = &group{one: s}
	}
	g.unseen += unseen
	return g
}

// socket stands for all of them: it has what they have in common.
func (g *group) socket(p peer) Socket {
	s := g.one
	s.ID, s.Inode, s.Local, s.Remote = 0, 0, p.local, p.remote
	return s
}

// speakLeast is how many connections of a service have to be seen for what they are
// like to be said of others. One connection says little of the next.
const speakLeast = 4

// Connections are called different where the part of an API in what was seen of
// one, if that was not little, is so far from its part in all.
const (
	different      = 0.2
	differentLeast = 16 << 10 // bytes
)

// mixedPools finds the services whose connections differ in how they send.
func mixedPools(samples map[uint64]map[API]*account, pools map[peer]map[API]*account, sockets map[uint64]Socket) map[peer]bool {
	mixed := map[peer]bool{}
	for id, one := range samples {
		seen := sum(one, (*account).seen)
		if seen < differentLeast {
			continue
		}
		for _, p := range peersOf(sockets[id]) {
			all := sum(pools[p], (*account).seen)
			for api, a := range pools[p] {
				part := 0.0
				if one[api] != nil {
					part = float64(one[api].seen()) / float64(seen)
				}
				if off := part - float64(a.seen())/float64(all); off > different || off < -different {
					mixed[p] = true
				}
			}
		}
	}
	return mixed
}

func put(into map[uint64]map[API]*account, key flowKey, a *account) {
	if into[key.socket] == nil {
		into[key.socket] = map[API]*account{}
	}
	into[key.socket][key.api] = a
}

func join(into map[peer]map[API]*account, key peer, api API, a *account) {
	if into[key] == nil {
		into[key] = map[API]*account{}
	}
	if into[key][api] == nil {
		into[key][api] = newAccount()
	}
	into[key][api].merge(a)
}

func firstSeen(of ...map[API]*account) map[API]*account {
	for _, accounts := range of {
		if sum(accounts, (*account).seen) > 0 {
			return accounts
		}
	}
	return nil
}

func (a *account) accepted() uint64 { return a.sent }

// seen is how much came to the driver's door.
func (a *account) seen() uint64 { return a.uncopied + a.copied + a.odd }

func sum(accounts map[API]*account, of func(*account) uint64) (total uint64) {
	for _, a := range accounts {
		total += of(a)
	}
	return total
}

func scale(n uint64, by float64) uint64 { return uint64(float64(n)*by + 0.5) }

// A take is what is known of one socket.
type take struct {
	whole, sample map[API]*account
	unseen        uint64
	model         map[API]*account // what the rest is like
}

func (t take) flows(s Socket) []Flow {
	bytes := map[API]uint64{}
	for _, accounts := range []map[API]*account{t.whole, t.sample} {
		for api, a := range accounts {
			bytes[api] += a.sent
		}
	}
	rest, all := t.unseen, sum(t.model, (*account).seen)
	for api, a := range t.model {
		n := min(scale(t.unseen, float64(a.seen())/float64(all)), rest)
		bytes[api] += n
		rest -= n
	}
	if rest > 0 { // rounding, or all of it
		bytes[t.most()] += rest
	}
	flows := make([]Flow, 0, len(bytes))
	for api, n := range bytes {
		flows = append(flows, t.flow(api, n, s))
	}
	return flows
}

func (t take) most() API {
	most := APIUnknown
	for api, a := range t.model {
		if most == APIUnknown || a.seen() > t.model[most].seen() || a.seen() == t.model[most].seen() && api < most {
			most = api
		}
	}
	return most
}

// flow is the part of one API, of so many bytes: what was seen while everything
// was looked at as it is, and the rest by the sample.
func (t take) flow(api API, bytes uint64, s Socket) Flow {
	whole := newAccount()
	if t.whole[api] != nil {
		whole.merge(t.whole[api])
	}
	whole.sent = bytes
	model := newAccount()
	if t.model[api] != nil {
		model.merge(t.model[api])
	}
	model.sent = model.seen()
	known, sample := whole.flow(api, s), model.flow(api, s)
	decided := model.seen() - (sample.UnknownBytes - min(model.odd, sample.UnknownBytes))
	rest := known.UnknownBytes - min(whole.odd, known.UnknownBytes)
	if decided == 0 || rest == 0 {
		return known
	}
	by := float64(rest) / float64(decided)
	f := known
	f.CopiedBytes += min(scale(sample.CopiedBytes, by), rest)
	f.UnknownBytes = known.UnknownBytes - rest + min(scale(model.odd, by), known.CopiedBytes+rest-f.CopiedBytes)
	f.ZeroCopiedBytes = f.Bytes - f.CopiedBytes - f.UnknownBytes
	if f.Device == "" {
		f.Device = sample.Device
	}
	causes := slices.Clone(whole.causes)
	for _, c := range model.causes {
		sum := causes.at(c.key)
		c.stacks = addStacks(sum.stacks, c.stacks)
		c.Bytes = min(sum.Bytes+scale(c.Bytes, by), max(bytes, sum.Bytes))
		c.Packets = sum.Packets + scale(c.Packets, by)
		*sum = c.Cause
	}
	f.Causes = sortCauses(causes)
	return f
}

// merge adds what another account has.
func (a *account) merge(b *account) {
	a.sent += b.sent
	a.uncopied += b.uncopied
	a.copied += b.copied
	a.odd += b.odd
	a.lost += b.lost
	a.underWay += b.underWay
	a.dropped += b.dropped
	a.stamped += b.stamped
	a.decided += b.decided
	a.absorbed += b.absorbed
	a.again += b.again
	a.unexplained += b.unexplained
	a.foreign += b.foreign
	for _, d := range b.devices {
		a.devices.add(d.name, d.bytes)
	}
	for _, c := range b.causes {
		sum := a.causes.at(c.key)
		c.stacks = addStacks(sum.stacks, c.stacks)
		c.Bytes += sum.Bytes
		c.Packets += sum.Packets
		*sum = c.Cause
	}
}

func addStacks(a, b map[uint32]uint64) map[uint32]uint64 {
	if a == nil && b == nil {
		return nil
	}
	sum := map[uint32]uint64{}
	for _, m := range []map[uint32]uint64{a, b} {
		for id, n := range m {
			sum[id] += n
		}
	}
	return sum
}

// every is how many parts there are of the time of a trace for each that was
// looked at.
func (s sampling) every(all time.Duration) int {
	watched := all - s.of + s.watched
	return int(max(1, (all+watched/2)/max(watched, 1)))
}

// incomplete says what sampling means for the figures.
func (s sampling) incomplete(all time.Duration) []string {
	if s.windows == 0 {
		return nil
	}
	part := 100 * float64(all-s.of+s.watched) / float64(max(all, 1))
	return []string{fmt.Sprintf("payload was looked at for %.1f %% of the time, in %d windows: copied, zero-copied and cause bytes are extrapolated from them, "+
		"and so are bytes of UDP sockets; bytes of TCP sockets are counted; retransmissions are those seen", part, s.windows)}
}
