package sys

import (
	"errors"
	"testing"
	"unsafe"
)

// ringParams are offsets as Linux 6.18 gives them for eight entries.
func ringParams() *UringParams {
	return &UringParams{
		SQEntries: 8, CQEntries: 16, Features: uringFeatSingleMmap,
		SQOff: UringSQOffsets{Head: 0, Tail: 4, RingMask: 16, RingEntries: 24, Array: 320},
		CQOff: UringCQOffsets{Head: 8, Tail: 12, RingMask: 20, RingEntries: 28, CQEs: 64},
	}
}

// words returns zeroed memory on an eight-byte boundary.
func words(n int) []byte {
	w := make([]uint64, n/8+1)
	return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), n)
}

func TestUringLayout(t *testing.T) {
	if n := unsafe.Sizeof(UringParams{}); n != 120 {
		t.Errorf("struct io_uring_params is 120 bytes, ours %d", n)
	}
	if n := unsafe.Sizeof(UringSQE{}); n != uringSQESize {
		t.Errorf("struct io_uring_sqe is 64 bytes, ours %d", n)
	}
	if n := unsafe.Offsetof(UringSQE{}.BufIndex); n != 40 {
		t.Errorf("buf_index is at 40, ours at %d", n)
	}
	if n := unsafe.Sizeof(UringCQE{}); n != uringCQESize {
		t.Errorf("struct io_uring_cqe is 16 bytes, ours %d", n)
	}
}

func TestUringRings(t *testing.T) {
	p := ringParams()
	nr, ns, err := UringSize(p)
	if err != nil || nr != 320+32 || ns != 512 {
		t.Fatalf("sizes %d, %d, %v", nr, ns, err)
	}
	u, err := NewUring(p, words(nr), words(ns))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if !u.Push(UringSQE{UserData: uint64(i)}) {
			t.Fatalf("request %d does not fit", i)
		}
	}
	if u.Push(UringSQE{}) {
		t.Error("a ninth request fits into eight entries")
	}
	if u.sqes[3].UserData != 3 || u.array[3] != 3 {
		t.Error("request 3 is not in its place")
	}
	if _, ok := u.Pop(); ok {
		t.Error("an answer came from an empty ring")
	}
	u.cqes[0] = UringCQE{UserData: 9, Res: -22}
	*u.cqTail = 1
	if c, ok := u.Pop(); !ok || c.UserData != 9 || c.Res != -22 || *u.cqHead != 1 {
		t.Errorf("got %+v, %v", c, ok)
	}
}

func TestUringRefusesBadLayout(t *testing.T) {
	for name, spoil := range map[string]func(*UringParams){
		"no entries":       func(p *UringParams) { p.SQEntries = 0 },
		"odd entries":      func(p *UringParams) { p.CQEntries = 15 },
		"huge entries":     func(p *UringParams) { p.SQEntries = 1 << 31 },
		"head outside":     func(p *UringParams) { p.SQOff.Head = 1 << 20 },
		"tail at the end":  func(p *UringParams) { p.CQOff.Tail = 350 },
		"array misaligned": func(p *UringParams) { p.SQOff.Array = 318 },
		"answers huge":     func(p *UringParams) { p.CQOff.CQEs = 1<<32 - 8 },
	} {
		p := ringParams()
		spoil(p)
		if u, err := NewUring(p, words(352), words(512)); err == nil || u != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p := ringParams()
	p.Features = 0
	if _, _, err := UringSize(p); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("two mappings: %v", err)
	}
	if _, err := NewUring(ringParams(), words(64), words(512)); err == nil {
		t.Error("short ring accepted")
	}
}

func FuzzUring(f *testing.F) {
	f.Add(uint32(8), uint32(16), uint32(0), uint32(4), uint32(8), uint32(12), uint32(320), uint32(64))
	f.Add(uint32(1), uint32(1<<31), uint32(1<<31), uint32(3), uint32(1), uint32(12), uint32(1<<32-4), uint32(1<<32-8))
	f.Fuzz(func(t *testing.T, sq, cq, sqHead, sqTail, cqHead, cqTail, array, cqes uint32) {
		p := &UringParams{SQEntries: sq, CQEntries: cq, Features: uringFeatSingleMmap,
			SQOff: UringSQOffsets{Head: sqHead, Tail: sqTail, Array: array},
			CQOff: UringCQOffsets{Head: cqHead, Tail: cqTail, CQEs: cqes}}
		u, err := NewUring(p, words(4096), words(4096))
		if (err == nil) == (u == nil) {
			t.Fatal("a ring and an error, or neither")
		}
		if u == nil {
			return
		}
		for range 3 {
			u.Push(UringSQE{Opcode: UringOpNop})
			u.Pop()
		}
	})
}
