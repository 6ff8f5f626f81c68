package sys

import (
	"encoding/binary"
	"testing"
)

// control builds one control message the way the kernel lays it out.
func control(level, typ uint32, data []byte) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(cmsgHeader+len(data)))
	b = binary.NativeEndian.AppendUint32(b, level)
	b = binary.NativeEndian.AppendUint32(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, (8-len(b)%8)%8)...)
}

func extended(errno uint32, origin, code uint8, lo, hi uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, errno)
	b = append(b, origin, 0, code, 0)
	b = binary.NativeEndian.AppendUint32(b, lo)
	b = binary.NativeEndian.AppendUint32(b, hi)
	return append(b, make([]byte, 16)...) // the offender's address follows
}

func TestParseErrqueue(t *testing.T) {
	for _, m := range errqueueMessages {
		oob := append(control(1, 2, make([]byte, 12)), control(m[0], m[1], extended(0, OriginZerocopy, ZerocopyCopied, 0xfffffffe, 3))...)
		got, err := ParseErrqueue(oob)
		want := ErrqueueEntry{Origin: OriginZerocopy, Code: ZerocopyCopied, Lo: 0xfffffffe, Hi: 3}
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("level %d: got %+v, %v", m[0], got, err)
		}
	}
	if got, err := ParseErrqueue(control(0, 11, extended(42, OriginTimestamp, 0, 1, 2))); err != nil || got[0].Errno != 42 || got[0].Origin != OriginTimestamp {
		t.Errorf("timestamp: got %+v, %v", got, err)
	}
	for name, oob := range map[string][]byte{
		"short header": make([]byte, 8),
		"zero length":  make([]byte, 64),
		"too long":     binary.NativeEndian.AppendUint64(make([]byte, 0, 32), 1<<40)[:32],
		"cut entry":    control(0, 11, make([]byte, 8)),
	} {
		if got, err := ParseErrqueue(oob); err == nil || got != nil {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func FuzzParseErrqueue(f *testing.F) {
	f.Add([]byte{})
	f.Add(control(0, 11, extended(0, OriginZerocopy, 1, 0, 7)))
	f.Add(control(41, 25, extended(111, OriginICMP6, 0, 0, 0)))
	f.Add(control(287, 1, make([]byte, 3)))
	f.Fuzz(func(t *testing.T, oob []byte) {
		got, err := ParseErrqueue(oob)
		if err != nil && got != nil {
			t.Fatal("entries and an error")
		}
		if len(got)*(cmsgHeader+sockEE) > len(oob) {
			t.Fatalf("%d entries out of %d bytes", len(got), len(oob))
		}
	})
}
