package ebpf

import (
	"fmt"
	"testing"
)

// TestBelow balances what devices below the first one do, and what becomes of pages
// that the kernel had written before they were sent.
func TestBelow(t *testing.T) {
	top, low := Device{Index: 3, Name: "mv0", Type: "macvlan"}, Device{Index: 2, Name: "nic0"}
	sent := func(a API) observation { return observation{socket: 1, place: placeSent, api: a, bytes: 1000} }
	at := func(a API, p place, d Device, m, was memory, e evidence) observation {
		return observation{socket: 1, device: d, place: p, api: a, memory: m, was: was, evidence: e, bytes: 1000, packets: 1}
	}
	lentDoor := at(APIZeroCopy, placeDoor, top, memoryUser, memoryUser, seenLent)
	routed := func(m memory, e evidence) observation {
		o := at(APIZeroCopy, placeAfter, low, m, memoryUser, e|seenReceived|metQueue)
		o.lent = o.bytes
		return o
	}
	for _, c := range []struct {
		name     string
		protocol string
		in       []observation
		want     string // zero-copied copied unknown, causes
	}{
		{"tapped below", "udp", []observation{sent(APIZeroCopy), at(APIZeroCopy, placeDoor, top, memoryUser, memoryUser, seenLent),
			at(APIZeroCopy, placeLower, low, memoryUser, memoryUser, seenLent|seenTap)}, "0 1000 0 [packet-tap/clone/nic0]"},
		{"tapped below, references", "udp", []observation{sent(APISendfile), at(APISendfile, placeDoor, top, memoryCache, memoryCache, 0),
			at(APISendfile, placeLower, low, memoryCache, memoryCache, 0)}, "1000 0 0 []"},
		{"datagrams summed below", "udp", []observation{sent(APIWrite), at(APIWrite, placeQueued, top, memoryLinear, memoryLinear, seenPartial),
			at(APIWrite, placeDoor, top, memoryLinear, memoryLinear, seenPartial), at(APIWrite, placeLower, low, memoryLinear, memoryLinear, seenNoChecksum)},
			"0 1000 0 [api-copy/send/ checksum-pass/linearize/nic0]"},
		{"datagrams summed in the call", "udp", []observation{sent(APIWrite), at(APIWrite, placeQueued, top, memoryLinear, memoryLinear, seenNoChecksum),
			at(APIWrite, placeDoor, top, memoryLinear, memoryLinear, 0), at(APIWrite, placeLower, low, memoryLinear, memoryLinear, seenNoChecksum)},
			"0 1000 0 [api-copy/send/ checksum-pass/send/mv0]"},
		{"passed on, in pages", "tcp", []observation{sent(APISplice), at(APISplice, placeDoor, low, memoryKernel, memoryKernel, sourceSocket)}, "1000 0 0 []"},
		{"passed on, made linear", "tcp", []observation{sent(APISplice), at(APISplice, placeDoor, low, memoryLinear, memoryKernel, sourceSocket|seenNoSG)},
			"0 1000 0 [no-scatter-gather/linearize/nic0]"},
		{"passed on, summed", "tcp", []observation{sent(APISplice), at(APISplice, placeDoor, low, memoryLinear, memoryKernel, sourceSocket|seenNoChecksum)},
			"0 1000 0 [checksum-pass/linearize/nic0 no-tx-csum/linearize/nic0]"},
		{"routed", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryUser, seenLent|seenGSO)}, "1000 0 0 []"},
		{"routed, made private", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryKernel, seenLent)}, "0 1000 0 [veth-routed-ingress/ingress/nic0]"},
		{"routed without scatter-gather", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryUser, seenLent|seenNoSG|seenGSO)},
			"0 1000 0 [no-scatter-gather/segment/nic0]"},
		{"routed, made private, without scatter-gather", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryKernel, seenLent|seenNoSG)},
			"0 1000 0 [no-scatter-gather/linearize/nic0 veth-routed-ingress/ingress/nic0]"},
		{"routed without checksums", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryUser, seenLent|seenNoChecksum)},
			"0 1000 0 [checksum-pass/linearize/nic0 no-tx-csum/linearize/nic0]"},
		{"routed past a packet socket", "tcp", []observation{sent(APIZeroCopy), lentDoor, routed(memoryUser, seenLent|seenTapOut)},
			"0 1000 0 [packet-tap/clone/nic0]"},
		{"written, summed", "tcp", []observation{sent(APIWrite), at(APIWrite, placeDoor, low, memoryKernel, memoryKernel, seenNoChecksum)},
			"0 1000 0 [checksum-pass/linearize/nic0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tcpSocket(1)
			s.Protocol = c.protocol
			flows := summarize(&observations{sockets: []Socket{s}, counts: c.in})
			if len(flows) != 1 {
				t.Fatalf("%+v", flows)
			}
			f, ids := flows[0], []string{}
			for _, cause := range f.Causes {
				ids = append(ids, fmt.Sprintf("%s/%s/%s", cause.ID, cause.Mechanism, cause.Device))
			}
			if got := fmt.Sprintf("%d %d %d %v", f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes, ids); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
