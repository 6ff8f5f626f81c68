package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// btfBuilder writes a BTF file, type by type.
type btfBuilder struct {
	order binary.AppendByteOrder
	types []byte
	strs  []byte
}

func newBTF(order binary.AppendByteOrder) *btfBuilder {
	return &btfBuilder{order: order, strs: []byte{0}}
}

func (b *btfBuilder) name(s string) uint32 {
	if i := bytes.Index(b.strs, []byte(s+"\x00")); i >= 0 { // shares the end of a longer name
		return uint32(i)
	}
	b.strs = append(append(b.strs, s...), 0)
	return uint32(len(b.strs) - len(s) - 1)
}

func (b *btfBuilder) record(name string, kind uint32, n int, rest ...uint32) {
	for _, v := range append([]uint32{b.name(name), kind<<24 | uint32(n), 0}, rest...) {
		b.types = b.order.AppendUint32(b.types, v)
	}
}

func (b *btfBuilder) structure(name string, members ...string) {
	var rest []uint32
	for _, m := range members {
		rest = append(rest, b.name(m), 1, 0)
	}
	b.record(name, btfStruct, len(members), rest...)
}

func (b *btfBuilder) bytes() []byte {
	out := b.order.AppendUint16(nil, btfMagic)
	out = append(out, 1, 0)
	for _, v := range []uint32{24, 0, uint32(len(b.types)), uint32(len(b.types)), uint32(len(b.strs))} {
		out = b.order.AppendUint32(out, v)
	}
	return append(append(out, b.types...), b.strs...)
}

// allKinds puts one record of each kind in front, so that a wrong length would
// derail the walk.
func allKinds(b *btfBuilder) {
	b.record("int", btfInt, 0, 32)
	b.record("", 2, 0) // PTR
	b.record("", btfArray, 0, 1, 1, 4)
	b.record("u", btfUnion, 2, b.name("ptype_all"), 1, 0, b.name("y"), 1, 0)
	b.record("e", btfEnum, 2, b.name("A"), 0, b.name("B"), 1)
	for kind := uint32(7); kind <= 12; kind++ { // FWD to FUNC
		b.record("x", kind, 0)
	}
	b.record("", btfFuncProto, 2, b.name("p"), 1, 0, 0)
	b.record("v", btfVar, 0, 1)
	b.record(".data", btfDatasec, 1, 1, 0, 4)
	b.record("float", 16, 0)
	b.record("tag", btfDeclTag, 0, 0)
	b.record("ttag", btfTypeTag, 0)
	b.record("e64", btfEnum64, 1, b.name("C"), 0, 1)
}

func netStruct(b *btfBuilder, members ...string) {
	b.structure("net", append([]string{"dev_base_head", "proc_net"}, members...)...)
}

func TestGlobalTapList(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*btfBuilder)
		want  *bool
	}{
		{"6.18: per namespace", func(b *btfBuilder) { netStruct(b, "ptype_all"); b.structure("net_hotdata", "max_backlog") }, new(false)},
		{"6.12: in net_hotdata", func(b *btfBuilder) { netStruct(b); b.structure("net_hotdata", "ptype_all") }, new(true)},
		{"5.10: a variable", func(b *btfBuilder) { netStruct(b); b.structure("net_device", "ptype_all") }, new(true)},
		{"moved somewhere else", func(b *btfBuilder) { netStruct(b); b.structure("net_hotdata", "max_backlog") }, nil},
		{"no struct net", func(b *btfBuilder) { b.structure("ethernet", "ptype_all", "dev_base_head", "proc_net") }, nil},
		{"another struct net", func(b *btfBuilder) { b.structure("net", "ptype_all") }, nil},
		{"two that differ", func(b *btfBuilder) { netStruct(b); netStruct(b, "ptype_all") }, nil},
		{"name shared with a longer one", func(b *btfBuilder) { b.name("ethernet"); b.name("old_ptype_all"); netStruct(b, "ptype_all") }, new(false)},
		{"only a longer member name", func(b *btfBuilder) { netStruct(b, "old_ptype_all") }, new(true)},
		{"empty", func(*btfBuilder) {}, nil},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			t.Run(c.name+"/"+order.String(), func(t *testing.T) {
				b := newBTF(order)
				allKinds(b)
				c.build(b)
				data := b.bytes()
				got, source, err := globalTapList(bytes.NewReader(data), int64(len(data)))
				if err != nil || !sameBool(got, c.want) || source == "" {
					t.Errorf("global %s (%q, %v), want %s", showBool(got), source, err, showBool(c.want))
				}
			})
		}
	}
}

func TestBTFMalformed(t *testing.T) {
	b := newBTF(binary.LittleEndian)
	netStruct(b, "ptype_all")
	good := b.bytes()
	edit := func(fn func([]byte) []byte) []byte { return fn(bytes.Clone(good)) }
	for name, data := range map[string][]byte{
		"empty":            nil,
		"short header":     good[:20],
		"no magic":         edit(func(b []byte) []byte { b[0] = 0; return b }),
		"version 2":        edit(func(b []byte) []byte { b[2] = 2; return b }),
		"strings cut off":  good[:len(good)-1],
		"strings open end": edit(func(b []byte) []byte { b[len(b)-1] = 'x'; return b }),
		"types cut":        edit(func(b []byte) []byte { b[12]--; return b }),
		"members cut":      edit(func(b []byte) []byte { b[24+4]++; return b }),
		"kind 31":          edit(func(b []byte) []byte { b[24+7] = 31; return b }),
		"kind 0":           edit(func(b []byte) []byte { b[24+7] = 0; return b }),
		"far header":       edit(func(b []byte) []byte { b[7] = 0xff; return b }),
	} {
		if got, _, err := globalTapList(bytes.NewReader(data), int64(len(data))); err == nil || got != nil {
			t.Errorf("%s: %s, %v, want an error", name, showBool(got), err)
		}
	}
	long := newBTF(binary.LittleEndian)
	long.name(string(bytes.Repeat([]byte("n"), btfBuffer+1)))
	data := long.bytes()
	if _, _, err := globalTapList(bytes.NewReader(data), int64(len(data))); err == nil {
		t.Error("a name longer than the buffer was accepted")
	}
	if _, _, err := globalTapList(bytes.NewReader(good), btfMost+1); !errors.Is(err, errBTF) {
		t.Errorf("a file over the limit: %v", err)
	}
}

func FuzzGlobalTapList(f *testing.F) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		b := newBTF(order)
		allKinds(b)
		netStruct(b, "ptype_all")
		f.Add(b.bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := globalTapList(bytes.NewReader(data), int64(len(data)))
		if err != nil && got != nil {
			t.Error("both an answer and an error")
		}
	})
}

func BenchmarkGlobalTapList(b *testing.B) {
	f, err := os.Open("/sys/kernel/btf/vmlinux")
	if err != nil {
		b.Skip("needs /sys/kernel/btf/vmlinux")
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got, source, err := globalTapList(f, st.Size()); err != nil || got == nil {
			b.Fatal(source, err)
		}
	}
}
