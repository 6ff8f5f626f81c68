package ebpf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// drain reads what was seen so far. The kernel first looks how far the streams
// are that are still open: no hook tells.
func (t *functionTracer) drain() (observations, error) {
	var all observations
	before := t.missed()
	if err := t.snapshot(); err != nil {
		return all, err
	}
	if err := t.readSenders(&all); err != nil {
		return all, err
	}
	if err := t.readFacts(&all); err != nil {
		return all, err
	}
	var cpus []fentryGone
	if err := t.loaded.Maps["missing"].Lookup(uint32(0), &cpus); err != nil {
		return all, fmt.Errorf("read losses: %w", err)
	}
	for _, c := range cpus {
		all.losses.Sockets += c.Senders
		all.losses.Counters += c.Facts
	}
	all.skipped = t.missed()
	all.losses.Missed = all.skipped.total()
	all.doubts = t.doubts.look(all, before, time.Now())
	all.sendpages = slices.ContainsFunc(t.hooks, func(h Hook) bool { return h.Name == "do_tcp_sendpages" && h.Attached })
	all.blindXDP = !slices.ContainsFunc(t.hooks, func(h Hook) bool {
		return h.Attached && (h.Name == "skb_pp_cow_data" || h.Name == "skb_copy_header")
	})
	return all, nil
}

func (t *functionTracer) snapshot() error {
	var key uint64
	var state fentrySenderState
	open := t.loaded.Maps["senders"].Iterate()
	var keys []uint64
	for open.Next(&key, &state) {
		if state.Owner.Protocol == 6 {
			keys = append(keys, key)
		}
	}
	if err := readErr("sockets", open); err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := t.loaded.Programs["snapshot"].Run(&ebpf.RunOptions{Context: [1]uint64{key}}); err != nil {
			return fmt.Errorf("look at open sockets: %w", err)
		}
	}
	return nil
}

func (t *functionTracer) readSenders(all *observations) error {
	all.facts = []fact{}
	all.most = map[uint64]uint64{}
	var key uint64
	var state fentrySenderState
	open := t.loaded.Maps["senders"].Iterate()
	for open.Next(&key, &state) {
		all.sockets = append(all.sockets, ownerOf(state.Owner))
		all.most[state.Owner.Id] = uint64(state.Owner.Most)
		if state.Owner.Protocol == 6 {
			all.facts = append(all.facts, unsent(&state)...)
		}
	}
	if err := readErr("sockets", open); err != nil {
		return err
	}
	var owner fentryOwner
	ended := t.loaded.Maps["ended"].Iterate()
	for ended.Next(&key, &owner) {
		all.sockets = append(all.sockets, ownerOf(owner))
		all.most[owner.Id] = uint64(owner.Most)
	}
	return readErr("closed sockets", ended)
}

func ownerOf(o fentryOwner) Socket {
	return socketOf(traceSocketFacts{
		Id: o.Id, Inode: o.Inode, Cgroup: o.Cgroup, Netns: o.Netns, Uid: o.Uid, Tgid: o.Tgid, Family: o.Family,
		Protocol: o.Protocol, LocalPort: o.LocalPort, RemotePort: o.RemotePort, Local: o.Local, Remote: o.Remote, Comm: o.Comm,
	})
}

// unsent returns what the peer of an open stream has not acknowledged, by the
// calls that sent it.
func unsent(s *fentrySenderState) []fact {
	const spans = uint32(len(s.At))
	var out []fact
	end := s.Sent
	for n := s.Newest; ; n-- {
		span := s.At[n%spans]
		start := span.Start
		if int32(s.Acked-start) > 0 {
			start = s.Acked
		}
		if left := int32(end - start); left > 0 {
			out = append(out, fact{socket: s.Owner.Id, kind: factUnsent, api: API(span.Api),
				evidence: spanEvidence(span), bytes: uint64(left), times: 1})
		}
		end = span.Start
		if int32(end-s.Acked) <= 0 || n == 0 || s.Newest-n == spans-1 {
			return out
		}
	}
}

// spanEvidence is what the kernel side makes of a span, too.
func spanEvidence(s fentrySpan) evidence {
	e := evidence(s.Source)
	if s.Flags&1 != 0 {
		e |= seenLent
	}
	if s.Flags&4 != 0 {
		e |= seenULP
	}
	return e
}

func (t *functionTracer) readFacts(all *observations) error {
	devices, err := t.readLinks()
	if err != nil {
		return err
	}
	var key fentryFactKey
	var value fentryFact
	var keys []fentryFactKey
	var addresses []uint64
	first := len(all.facts)
	entries := t.loaded.Maps["facts"].Iterate()
	for entries.Next(&key, &value) {
		keys = append(keys, key)
		addresses = append(addresses, key.Frames[:]...)
		all.facts = append(all.facts, fact{
			socket: key.Socket, device: devices[deviceKey{key.Netns, key.Device}], kind: factKind(key.Kind), api: API(key.Api),
			memory: memory(key.Class), evidence: evidence(key.Evidence), bytes: value.Bytes, times: value.Times})
	}
	if err := readErr("facts", entries); err != nil {
		return err
	}
	if err := t.learn(addresses); err != nil {
		return err
	}
	for i, key := range keys {
		all.facts[first+i].callers = callersOf(key.Frames[:], t.names)
	}
	if t.stacks {
		all.numberStacks()
	}
	return nil
}

// learn names the functions at addresses that were not seen before.
func (t *functionTracer) learn(addresses []uint64) error {
	names, err := nameFunctions(slices.DeleteFunc(addresses, func(a uint64) bool { return t.names[a] != "" }))
	if t.names == nil {
		t.names = names
	}
	maps.Copy(t.names, names)
	return err
}

// numberStacks keeps the stacks of copies, each once.
func (all *observations) numberStacks() {
	all.stacks = map[uint32][]string{}
	numbers := map[string]uint32{}
	for i := range all.facts {
		f := &all.facts[i]
		if len(f.callers) == 0 {
			continue
		}
		key := strings.Join(f.callers, "\n")
		if numbers[key] == 0 {
			numbers[key] = uint32(len(numbers) + 1)
			all.stacks[numbers[key]] = f.callers
		}
		f.stack = numbers[key]
	}
}

func (t *functionTracer) readLinks() (map[deviceKey]Device, error) {
	found := map[deviceKey]Device{}
	var key fentryLinkKey
	var value fentryLink
	entries := t.loaded.Maps["links"].Iterate()
	for entries.Next(&key, &value) {
		found[deviceKey{key.Netns, key.Index}] = Device{
			NetNS: key.Netns, Index: key.Index, Name: text(value.Name[:]), Type: text(value.Type[:])}
	}
	return found, readErr("devices", entries)
}

// callersOf names the functions on a stack behind the one that is hooked. In
// front of it are the programs of the tracer.
func callersOf(frames []uint64, names map[uint64]string) []string {
	var out []string
	for _, at := range frames {
		if at == 0 {
			break
		}
		out = append(out, names[at])
	}
	hooked := slices.IndexFunc(out, func(name string) bool { return copiers[name] })
	if hooked < 0 {
		return nil
	}
	return out[hooked+1:]
}
