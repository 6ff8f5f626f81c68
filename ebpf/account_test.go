package ebpf

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func tcpSocket(id uint64) Socket {
	return Socket{ID: id, PID: 7, Comm: "app", Protocol: "tcp", Local: netip.MustParseAddrPort("10.0.0.1:1"), Remote: netip.MustParseAddrPort("10.0.0.2:2")}
}

// TestSummarize balances accounts that no test can make the kernel keep.
func TestSummarize(t *testing.T) {
	nic := Device{Index: 2, Name: "nic0"}
	door := func(m, was memory, e evidence, bytes uint64) observation {
		return observation{socket: 1, device: nic, place: placeDoor, api: APIZeroCopy, memory: m, was: was, evidence: e, bytes: bytes, packets: 1}
	}
	sent := observation{socket: 1, place: placeSent, api: APIZeroCopy, bytes: 1000, packets: 1}
	after := func(m memory, e evidence, where string, lent uint64) observation {
		return observation{socket: 1, device: nic, place: placeAfter, api: APIZeroCopy, memory: m, was: memoryUser,
			evidence: e, bytes: lent, packets: 1, lent: lent, where: where}
	}
	for _, c := range []struct {
		name string
		in   []observation
		want string // zero-copied copied unknown, causes
	}{
		{"unsent", []observation{sent}, "0 0 1000 []"},
		{"uncopied", []observation{sent, door(memoryUser, memoryUser, seenLent, 1000)}, "1000 0 0 []"},
		{"half sent", []observation{sent, door(memoryUser, memoryUser, seenLent, 500)}, "500 0 500 []"},
		{"more than accepted", []observation{sent, door(memoryUser, memoryUser, seenLent, 1500)}, "1000 0 0 []"},
		{"copied, and nobody knows why", []observation{sent, door(memoryKernel, memoryUser, 0, 1000)}, "0 1000 0 []"},
		{"two reasons", []observation{sent, door(memoryLinear, memoryUser, seenNoSG|seenNoChecksum, 1000)},
			"0 1000 0 [checksum-pass/linearize no-scatter-gather/linearize]"},
		{"tapped, then delivered", []observation{sent, door(memoryUser, memoryUser, seenLent|seenTap, 1000),
			after(memoryKernel, seenLent|seenTap|seenReceived|metSocket, "", 1000)}, "0 1000 0 [loopback-delivery/ingress packet-tap/clone]"},
		{"driver", []observation{sent, door(memoryUser, memoryUser, seenLent, 1000),
			after(memoryLinear, seenLent|metFreed, "napi_consume_skb", 1000)}, "0 1000 0 [driver-linearize/driver]"},
		{"file that was removed, delivered here", []observation{sent, door(memoryCache, memoryCache, 0, 1000),
			after(memoryKernel, seenReceived|metSocket, "", 1000)}, "1000 0 0 []"},
		{"under way", []observation{sent, door(memoryUser, memoryUser, seenLent, 1000),
			{socket: 1, place: placeUnderWay, api: APIZeroCopy, lent: 300, evidence: seenLent}}, "700 0 300 []"},
		{"arrived in another packet", []observation{sent, door(memoryUser, memoryUser, seenLent, 1000),
			{socket: 1, place: placeUnderWay, api: APIZeroCopy, lent: 300, evidence: seenLent},
			{socket: 1, place: placeAbsorbed, api: APIZeroCopy, bytes: 300},
			after(memoryKernel, seenLent|seenReceived|metSocket, "", 1000)}, "0 1000 0 [loopback-delivery/ingress]"},
		{"of another socket", []observation{sent, {socket: 2, place: placeDoor, api: APIZeroCopy, memory: memoryUser, bytes: 9}}, "0 0 1000 []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flows := summarize(&observations{sockets: []Socket{tcpSocket(1)}, counts: c.in})
			if len(flows) != 1 {
				t.Fatalf("%+v", flows)
			}
			f := flows[0]
			ids := []string{}
			for _, cause := range f.Causes {
				ids = append(ids, cause.ID+"/"+string(cause.Mechanism))
			}
			got := fmt.Sprintf("%d %d %d %v", f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes, ids)
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
				t.Errorf("does not add up: %+v", f)
			}
		})
	}
}

// TestCorked: what leaves in no send call is of the API that gave the socket its bytes,
// where that is one.
func TestCorked(t *testing.T) {
	udp := tcpSocket(1)
	udp.Protocol = "udp"
	nic := Device{Index: 2, Name: "nic0"}
	sent := func(api API) observation {
		return observation{socket: 1, place: placeSent, api: api, bytes: 800, packets: 2}
	}
	queued := observation{socket: 1, device: nic, place: placeQueued, memory: memoryKernel, was: memoryKernel, bytes: 800, packets: 1}
	door := queued
	door.place = placeDoor
	for _, c := range []struct {
		name   string
		in     []observation
		copied uint64
		causes string
	}{
		{"one", []observation{sent(APIZeroCopy), queued, door}, 800, "[checksum-pass udp-corked]"},
		{"written", []observation{sent(APIWrite), queued, door}, 800, "[api-copy checksum-pass]"},
		{"two", []observation{sent(APIZeroCopy), sent(APIWrite), queued, door}, 0, "[checksum-pass]"},
	} {
		var copied uint64
		var ids []string
		for _, f := range summarize(&observations{sockets: []Socket{udp}, counts: c.in}) {
			copied += f.CopiedBytes
			for _, cause := range f.Causes {
				ids = append(ids, cause.ID)
			}
		}
		slices.Sort(ids)
		if copied != c.copied || fmt.Sprint(ids) != c.causes {
			t.Errorf("%s: %d bytes copied, %v", c.name, copied, ids)
		}
	}
}

// FuzzSummarize adds up anything.
func FuzzSummarize(f *testing.F) {
	f.Add(uint8(2), uint8(6), uint8(3), uint8(3), uint32(seenLent), uint64(1000), uint64(0))
	f.Add(uint8(4), uint8(6), uint8(2), uint8(3), uint32(seenLent|metSocket), uint64(1<<63), uint64(1<<63))
	f.Fuzz(func(t *testing.T, where, api, m, was uint8, e uint32, bytes, lent uint64) {
		flows := summarize(&observations{sockets: []Socket{tcpSocket(1)}, counts: []observation{
			{socket: 1, place: placeSent, api: API(api), bytes: 1000},
			{socket: 1, place: placeDoor, api: API(api), memory: memoryUser, was: memoryUser, bytes: 800},
			{socket: 1, place: place(where), api: API(api), memory: memory(m), was: memory(was), evidence: evidence(e), bytes: bytes, lent: lent},
		}})
		for _, flow := range flows {
			if flow.Bytes != flow.ZeroCopiedBytes+flow.CopiedBytes+flow.UnknownBytes {
				t.Errorf("does not add up: %+v", flow)
			}
		}
	})
}

// Payload that came to a device, and of which no call was seen, is told of, and is
// no flow.
func TestStrays(t *testing.T) {
	all := observations{
		sockets: []Socket{{ID: 1, PID: 2, Inode: 3, Protocol: "udp"}},
		counts: []observation{
			{socket: 1, place: placeSent, api: APIWrite, bytes: 10},
			{socket: 1, place: placeQueued, api: APIUringSendZC, memory: memoryUser, bytes: 600, packets: 1},
		},
	}
	var s Summary
	s.judge(&all, nil)
	if len(s.Flows) != 1 || s.Flows[0].API != "write" || len(s.Causes) != 0 || !slices.ContainsFunc(s.Incomplete, func(text string) bool {
		return strings.Contains(text, "payload of 1 sockets came to a device")
	}) {
		t.Errorf("%+v", s)
	}
}

// Connections of which nothing was seen are told of one by one where all that
// were seen send alike, and together where those differ.
func TestUnseenOfMany(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		all := observations{sampled: sampling{windows: 3, of: time.Second, watched: time.Second / 100}}
		for id := uint64(1); id <= 8; id++ {
			s := tcpSocket(id)
			s.Inode = 100 + id
			all.sockets = append(all.sockets, s)
			api, memory := APIWrite, memoryKernel
			if mixed && id%2 == 0 {
				api, memory = APISendfile, memoryCache
			}
			all.counts = append(all.counts, observation{socket: id, place: placeUnseen, bytes: 1_000_000})
			if id <= 4 { // seen in a window
				all.counts = append(all.counts,
					observation{socket: id, place: placeSent, api: api, bytes: 100_000, evidence: seenSampled},
					observation{socket: id, place: placeQueued, api: api, memory: memory, was: memory, bytes: 100_000, packets: 2, evidence: seenSampled},
					observation{socket: id, place: placeDoor, api: api, memory: memory, was: memory, bytes: 100_000, packets: 2, evidence: seenSampled})
			}
		}
		var bytes, copied, apart uint64
		for _, f := range summarize(&all) {
			bytes, copied = bytes+f.Bytes, copied+f.CopiedBytes
			if f.Inode > 104 {
				apart += f.Bytes
			}
			if (f.Inode == 0) != (f.Local == "") {
				t.Errorf("%+v", f)
			}
		}
		want := [3]uint64{8_400_000, 8_400_000, 4_000_000}
		if mixed {
			want = [3]uint64{8_400_000, 4_200_000, 0}
		}
		if got := [3]uint64{bytes, copied, apart}; got != want {
			t.Errorf("mixed %v: %d, want %d", mixed, got, want)
		}
	}
}

// Where the end of calls is not seen, what cannot be of a call is of none.
func TestForeign(t *testing.T) {
	for _, mix := range []bool{false, true} {
		all := observations{sockets: []Socket{tcpSocket(1)}, callsMix: mix, counts: []observation{
			{socket: 1, place: placeSent, api: APISendfile, bytes: 1300},
			{socket: 1, place: placeQueued, api: APISendfile, memory: memoryLinear, was: memoryLinear, bytes: 300, packets: 1, evidence: sourceCache},
			{socket: 1, place: placeDoor, api: APISendfile, memory: memoryLinear, was: memoryLinear, bytes: 300, packets: 1, evidence: sourceCache},
			{socket: 1, place: placeQueued, api: APISendfile, memory: memoryCache, was: memoryCache, bytes: 1000, packets: 1, evidence: sourceCache},
			{socket: 1, place: placeDoor, api: APISendfile, memory: memoryCache, was: memoryCache, bytes: 1000, packets: 1, evidence: sourceCache},
		}}
		got := map[string][3]uint64{}
		for _, f := range summarize(&all) {
			got[f.API] = [3]uint64{f.Bytes, f.ZeroCopiedBytes, f.CopiedBytes}
		}
		want := map[string][3]uint64{"sendfile": {1300, 1000, 300}}
		if mix {
			want = map[string][3]uint64{"sendfile": {1000, 1000, 0}, "unknown": {300, 0, 300}}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%v: %v, want %v", mix, got, want)
		}
	}
}

// TestSplicedDatagrams: which of two reasons to copy pages of a file the kernel had.
func TestSplicedDatagrams(t *testing.T) {
	for _, c := range []struct {
		name string
		e    evidence
		want string
	}{
		{"no scatter-gather", seenNoSG | seenPartial, "no-scatter-gather"},
		{"by sendpage, left to the device", seenNoSG | seenPartial | seenSendpage, "udp-splice-copy"},
		{"by sendpage, summed in the call", seenNoSG | seenSendpage, "no-scatter-gather"},
		{"nothing lacks", seenPartial, "udp-splice-copy"},
	} {
		o := observation{api: APISendfile, memory: memoryLinear, evidence: c.e | seenDatagram | sourceCache, device: Device{Name: "nic0"}}
		if id, _ := sendCause(o); id != c.want {
			t.Errorf("%s: %s, want %s", c.name, id, c.want)
		}
	}
}
