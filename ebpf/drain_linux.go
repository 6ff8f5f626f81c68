package ebpf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// drain reads what has been counted so far.
func (a *attachment) drain() (observations, error) {
	if a.watch == nil {
		return a.read()
	}
	return a.watch.drain()
}

func (a *attachment) read() (observations, error) {
	all := observations{callsMix: a.loaded.Programs["sock_send_length"] == nil}
	devices, err := a.devices()
	if err != nil {
		return all, err
	}
	if err := a.readSockets(&all); err != nil {
		return all, err
	}
	if err := a.readCounters(devices, &all); err != nil {
		return all, err
	}
	if err := a.readFlights(devices, &all); err != nil {
		return all, err
	}
	return all, errors.Join(a.readStacks(&all), a.readLosses(&all))
}

type deviceKey struct{ netns, index uint32 }

func (a *attachment) devices() (map[deviceKey]Device, error) {
	found := map[deviceKey]Device{}
	var key traceDeviceKey
	var value traceDevice
	entries := a.objects.Devices.Iterate()
	for entries.Next(&key, &value) {
		found[deviceKey{key.Netns, key.Index}] = Device{
			NetNS: value.Netns, Index: key.Index, Name: text(value.Name[:]), Type: text(value.Type[:])}
	}
	return found, readErr("devices", entries)
}

// readSockets reads the open ones first: one that is closed meanwhile is there
// twice then, and not missing.
func (a *attachment) readSockets(all *observations) error {
	var key uint64
	var state traceSocketState
	open := a.objects.Sockets.Iterate()
	for open.Next(&key, &state) {
		all.sockets = append(all.sockets, socketOf(traceSocketFacts(state.Facts)))
	}
	if err := readErr("sockets", open); err != nil {
		return err
	}
	var facts traceSocketFacts
	closed := a.objects.Closed.Iterate()
	for closed.Next(&key, &facts) {
		all.sockets = append(all.sockets, socketOf(facts))
	}
	return readErr("closed sockets", closed)
}

func socketOf(s traceSocketFacts) Socket {
	out := Socket{
		ID: s.Id, PID: int(s.Tgid), Comm: text(s.Comm[:]), Inode: s.Inode, Cgroup: s.Cgroup, NetNS: s.Netns, UID: s.Uid,
		Local: addrPort(s.Family, s.Local, s.LocalPort),
	}
	switch s.Protocol {
	case 6:
		out.Protocol = "tcp"
	case 17:
		out.Protocol = "udp"
	case 262: // IPPROTO_MPTCP
		out.Protocol = "mptcp"
	}
	if s.RemotePort != 0 {
		out.Remote = addrPort(s.Family, s.Remote, s.RemotePort)
	}
	return out
}

func addrPort(family uint16, raw [16]uint8, port uint16) netip.AddrPort {
	const inet6 = 10 // AF_INET6
	if family == inet6 {
		return netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[:4])), port)
}

func (a *attachment) readCounters(devices map[deviceKey]Device, all *observations) error {
	var key traceCounterKey
	var value traceCounter
	where := map[int]uint64{}                               // by number of the observation
	all.counts = make([]observation, 0, 4*len(all.sockets)) // what most sockets have
	entries := a.objects.Counters.Iterate()
	for entries.Next(&key, &value) {
		if key.Where != 0 {
			where[len(all.counts)] = key.Where
		}
		all.counts = append(all.counts, observation{
			socket: key.Socket, device: devices[deviceKey{key.Netns, key.Device}],
			place: place(key.Kind), api: API(key.Api), memory: memory(key.Class), was: memory(key.Was),
			evidence: evidence(key.Evidence), bytes: value.Bytes, packets: value.Packets, lent: value.LentBytes,
			stack: key.Stack,
		})
	}
	if err := readErr("counters", entries); err != nil {
		return err
	}
	if err := a.learn(slices.Collect(maps.Values(where))); err != nil {
		return err
	}
	for i, at := range where {
		all.counts[i].where = a.names[at]
	}
	return nil
}

// learn names the functions at addresses that were not met before: that takes
// reading all symbols of the kernel.
func (a *attachment) learn(addresses []uint64) error {
	unknown := slices.DeleteFunc(addresses, func(at uint64) bool {
		_, known := a.names[at]
		return known
	})
	names, err := functionsAt(unknown)
	if err != nil {
		return err
	}
	if a.names == nil {
		a.names = map[uint64]string{}
	}
	for _, at := range unknown {
		a.names[at] = names[at]
	}
	return nil
}

// readFlights adds the packets of which it is not decided whether they will be
// copied: lent ones that are still under way on this machine.
func (a *attachment) readFlights(devices map[deviceKey]Device, all *observations) error {
	return a.eachFlight(func(f traceFlight) { all.underWay(f, devices) })
}

// takeFlights does the same with what the iterator of that name tells.
func takeFlights(r io.Reader, devices map[deviceKey]Device, all *observations) error {
	var f traceFlight
	raw, flights := make([]byte, binary.Size(f)), bufio.NewReader(r)
	for {
		if _, err := io.ReadFull(flights, raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := binary.Decode(raw, binary.NativeEndian, &f); err != nil {
			return err
		}
		all.underWay(f, devices)
	}
}

func (all *observations) underWay(f traceFlight, devices map[deviceKey]Device) {
	device := devices[deviceKey{f.Netns, f.Device}]
	stays := device.Type != "" || evidence(f.Evidence)&(seenReceived|seenLoopback) != 0
	if f.LentBytes == 0 || !stays || !evidence(f.Evidence).has(seenLent) {
		return
	}
	o := observation{
		socket: f.Id, device: device, place: placeUnderWay, api: API(f.Api), memory: memory(f.Class), was: memory(f.Class),
		evidence: evidence(f.Evidence), bytes: uint64(f.Bytes - f.OtherBytes), packets: 1}
	other := min(f.OtherLent, f.LentBytes)
	if o.lent = uint64(f.LentBytes - other); o.lent > 0 {
		all.counts = append(all.counts, o)
	}
	if other == 0 {
		return
	}
	o.api, o.memory, o.was = API(f.OtherApi), memory(f.OtherClass), memory(f.OtherClass)
	o.bytes, o.lent = uint64(f.OtherBytes), uint64(other)
	all.counts = append(all.counts, o)
}

func (a *attachment) eachFlight(do func(traceFlight)) error {
	const most = 512
	keys, buckets := make([]uint32, most), make([]traceFlightBucket, most)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := a.objects.Flights.BatchLookup(&cursor, keys, buckets, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read packets under way: %w", err)
		}
		for _, bucket := range buckets[:n] {
			for _, f := range bucket.Way {
				if f.Packet != 0 {
					do(traceFlight(f))
				}
			}
		}
		if err != nil || n == 0 {
			return nil
		}
	}
}

// busy returns how often payload was looked at.
func (a *attachment) busy() (uint64, error) {
	var total uint64
	for slot := range uint32(2) {
		var cpus []tracePacket
		if err := a.objects.Scratch.Lookup(slot, &cpus); err != nil {
			return 0, fmt.Errorf("read load: %w", err)
		}
		for _, c := range cpus {
			total += uint64(c.Events)
		}
	}
	return total, nil
}

// left returns how many packets have left of which more may become on this
// machine.
func (a *attachment) left() (uint64, error) {
	var cpus []traceLosses
	if err := a.objects.Lost.Lookup(uint32(0), &cpus); err != nil {
		return 0, fmt.Errorf("read packets under way: %w", err)
	}
	var n uint64
	for _, c := range cpus {
		n += c.FlightsIn
	}
	return n, nil
}

func (a *attachment) readLosses(all *observations) error {
	var cpus []traceLosses
	if err := a.objects.Lost.Lookup(uint32(0), &cpus); err != nil {
		return fmt.Errorf("read losses: %w", err)
	}
	for _, c := range cpus {
		all.losses.Sockets += c.Sockets
		all.losses.Counters += c.Counters
		all.losses.Unparsed += c.Unparsed
		all.losses.Frags += c.Frags
		all.losses.Bases += c.Bases
		all.losses.Stacks += c.Stacks
		all.losses.Flights += c.FlightsLost
	}
	return nil
}

// readErr is the error of reading a map. One that changes while it is read may
// make a full round impossible; what was read is good.
func readErr(what string, entries *ebpf.MapIterator) error {
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

func text(raw []byte) string {
	raw, _, _ = bytes.Cut(raw, []byte{0})
	return string(raw)
}
