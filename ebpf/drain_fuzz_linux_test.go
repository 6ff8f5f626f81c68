package ebpf

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// What an iterator in the kernel writes is read whole, or refused.
func FuzzTakeFlights(f *testing.F) {
	size := binary.Size(traceFlight{})
	one := func(flight traceFlight) []byte {
		b, err := binary.Append(nil, binary.NativeEndian, flight)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	lent := traceFlight{Netns: 1, Device: 2, Bytes: 1500, LentBytes: 1400, Evidence: uint32(seenLent | seenReceived)}
	f.Add(one(lent))
	f.Add(append(one(traceFlight{}), one(lent)...))
	f.Add(one(lent)[:size-1])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var all observations
		err := takeFlights(bytes.NewReader(raw), map[deviceKey]Device{{1, 2}: {Name: "veth0", Type: "veth"}}, &all)
		if whole := len(raw)%size == 0; whole != (err == nil) {
			t.Errorf("%d bytes of flights of %d: %v", len(raw), size, err)
		}
		if len(all.counts) > 2*(len(raw)/size) { // of two APIs each
			t.Errorf("%d flights in %d bytes", len(all.counts), len(raw))
		}
		for _, o := range all.counts {
			if o.lent == 0 || o.place != placeUnderWay {
				t.Errorf("%+v", o)
			}
		}
	})
}
