package probe

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// fakeEthtool is a kernel whose answer to each command is a function. The
// default is EOPNOTSUPP.
type fakeEthtool struct {
	cmds  map[uint32]func(buf []byte) error
	name  string // of every index
	gone  bool
	calls []uint32
}

func (f *fakeEthtool) Do(_ string, buf []byte) error {
	cmd := binary.NativeEndian.Uint32(buf)
	f.calls = append(f.calls, cmd)
	if f.gone {
		return sys.Wrap("fake", syscall.ENODEV)
	}
	if fn := f.cmds[cmd]; fn != nil {
		return fn(buf)
	}
	return sys.Wrap("fake", syscall.EOPNOTSUPP)
}

func (f *fakeEthtool) NameOf(int) (string, error) {
	if f.gone {
		return "", sys.Wrap("fake", syscall.ENODEV)
	}
	return f.name, nil
}

// kernelWith answers as a kernel with these features, positions without a name
// included; the states are those of decodeFeatures's words.
func kernelWith(names []string, words ...uint32) *fakeEthtool {
	put := binary.NativeEndian.PutUint32
	return &fakeEthtool{name: "eth0", cmds: map[uint32]func([]byte) error{
		sys.EthtoolGSSetInfo: func(buf []byte) error {
			put(buf[16:], uint32(len(names)))
			return nil
		},
		sys.EthtoolGStrings: func(buf []byte) error {
			put(buf[8:], uint32(len(names)))
			for i, n := range names {
				copy(buf[12+32*i:], n)
			}
			return nil
		},
		sys.EthtoolGFeatures: func(buf []byte) error {
			put(buf[4:], uint32(len(words)/4))
			for i, w := range words {
				if 8+4*i+4 <= len(buf) {
					put(buf[8+4*i:], w)
				}
			}
			return nil
		},
	}}
}

func readFake(k *fakeEthtool) Link {
	l := Link{Name: "eth0", Index: 2}
	r := ethtoolReader{kernel: k}
	r.read(&l)
	return l
}

func TestFeatureStates(t *testing.T) {
	names := make([]string, 34)
	names[0], names[1], names[3], names[33] = "a", "b", "d", "z"
	l := readFake(kernelWith(names,
		// available, requested, active, never changed
		0b0001, 0b0011, 0b1000, 0b1000,
		0b10, 0b10, 0b10, 0))
	want := map[string]FeatureState{
		"a": {Available: true, Requested: true},
		"b": {Requested: true},
		"d": {Active: true, NeverChanged: true},
		"z": {Available: true, Requested: true, Active: true},
	}
	if !maps.Equal(l.Features, want) || l.FeaturesError != "" || l.FeaturesSource != fromGFeatures {
		t.Errorf("features %+v from %q, error %q", l.Features, l.FeaturesSource, l.FeaturesError)
	}
}

func TestFeatureNamesAreReadOnce(t *testing.T) {
	k := kernelWith([]string{"a"}, 1, 1, 1, 0)
	r := ethtoolReader{kernel: k}
	for range 3 {
		r.read(&Link{Name: "eth0", Index: 2})
	}
	count := func(cmd uint32) (n int) {
		for _, c := range k.calls {
			if c == cmd {
				n++
			}
		}
		return n
	}
	if s, f := count(sys.EthtoolGStrings), count(sys.EthtoolGFeatures); s != 1 || f != 3 {
		t.Errorf("names read %d times, features %d times", s, f)
	}
}

func TestEthtoolBadDays(t *testing.T) {
	put := binary.NativeEndian.PutUint32
	errno := func(e syscall.Errno) func([]byte) error {
		return func([]byte) error { return sys.Wrap("fake", e) }
	}
	for _, c := range []struct {
		name string
		bend func(k *fakeEthtool)
		want string // in FeaturesError
	}{
		{"gone", func(k *fakeEthtool) { k.gone = true }, "ENODEV"},
		{"suspended", func(k *fakeEthtool) { k.cmds[sys.EthtoolGFeatures] = errno(syscall.ENODEV) }, "listed but not present"},
		{"renamed", func(k *fakeEthtool) { k.name = "eth1" }, `renamed to "eth1"`},
		{"denied", func(k *fakeEthtool) { k.cmds[sys.EthtoolGSSetInfo] = errno(syscall.EPERM) }, "EPERM"},
		{"features denied", func(k *fakeEthtool) { k.cmds[sys.EthtoolGFeatures] = errno(syscall.EACCES) }, "EACCES"},
		{"nothing at all", func(k *fakeEthtool) { clear(k.cmds) }, "EOPNOTSUPP"},
		{"no string set", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGSSetInfo] = func(buf []byte) error { binary.NativeEndian.PutUint64(buf[8:], 0); return nil }
		}, "EOPNOTSUPP"},
		{"no names", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGSSetInfo] = func(buf []byte) error { return nil }
		}, "0 names"},
		{"too many names", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGSSetInfo] = func(buf []byte) error { put(buf[16:], 1<<31); return nil }
		}, "2147483648 names"},
		{"count changed", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGStrings] = func(buf []byte) error { put(buf[8:], 5); return nil }
		}, "5 strings, 2 were announced"},
		{"string without end", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGStrings] = func(buf []byte) error { copy(buf[12:], bytes.Repeat([]byte{'x'}, 32)); return nil }
		}, "has no end"},
		{"string twice", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGStrings] = func(buf []byte) error { copy(buf[12:], "x"); copy(buf[44:], "x"); return nil }
		}, "there twice"},
		{"fewer states than names", func(k *fakeEthtool) {
			k.cmds[sys.EthtoolGFeatures] = func(buf []byte) error { put(buf[4:], 0); return nil }
		}, "2 names, but states for 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := kernelWith([]string{"a", "b"}, 1, 1, 1, 0)
			c.bend(k)
			l := readFake(k)
			if len(l.Features) != 0 || l.FeaturesSource != "" || !strings.Contains(l.FeaturesError, c.want) {
				t.Errorf("features %v from %q, error %q, want %q", l.Features, l.FeaturesSource, l.FeaturesError, c.want)
			}
		})
	}
}

func TestLegacyIoctls(t *testing.T) {
	value := func(v uint32) func([]byte) error {
		return func(buf []byte) error { binary.NativeEndian.PutUint32(buf[4:], v); return nil }
	}
	for _, c := range []struct {
		name             string
		sg, csum, tso, g func([]byte) error
		on, off          []string
	}{
		{
			"all on: only what has an ioctl of its own is known",
			value(1), value(1), value(1), value(1),
			[]string{"tx-generic-segmentation"}, nil,
		},
		{
			"all off", value(0), value(0), value(0), value(0), nil,
			[]string{
				"tx-checksum-fcoe-crc", "tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp",
				"tx-generic-segmentation", "tx-scatter-gather", "tx-scatter-gather-fraglist",
				"tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp-segmentation", "tx-tcp6-segmentation",
			},
		},
		{"some refused", value(0), nil, nil, nil, nil, []string{"tx-scatter-gather", "tx-scatter-gather-fraglist"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := readFake(&fakeEthtool{name: "eth0", cmds: map[uint32]func([]byte) error{
				sys.EthtoolGSG: c.sg, sys.EthtoolGTxCsum: c.csum, sys.EthtoolGTSO: c.tso, sys.EthtoolGGSO: c.g,
			}})
			var on, off []string
			for _, name := range slices.Sorted(maps.Keys(l.Features)) {
				if l.Features[name].Active {
					on = append(on, name)
				} else {
					off = append(off, name)
				}
			}
			if !slices.Equal(on, c.on) || !slices.Equal(off, c.off) || l.FeaturesSource != fromLegacy || l.FeaturesError != "" {
				t.Errorf("on %v, off %v from %q, error %q", on, off, l.FeaturesSource, l.FeaturesError)
			}
		})
	}
}

// FuzzEthtoolReplies lets the kernel write anything anywhere in its buffers.
func FuzzEthtoolReplies(f *testing.F) {
	f.Add(uint32(2), []byte("\x1b\x00\x00\x00\x04\x00\x00\x00\x02\x00\x00\x00abc"), []byte("\x3a\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff"))
	f.Add(uint32(0xffffffff), []byte{}, []byte{})
	f.Add(uint32(62), make([]byte, 12+62*32), make([]byte, 8+32))
	f.Fuzz(func(t *testing.T, count uint32, strings, features []byte) {
		k := &fakeEthtool{name: "eth0", cmds: map[uint32]func([]byte) error{
			sys.EthtoolGSSetInfo: func(buf []byte) error { binary.NativeEndian.PutUint32(buf[16:], count); return nil },
			sys.EthtoolGStrings:  func(buf []byte) error { copy(buf, strings); return nil },
			sys.EthtoolGFeatures: func(buf []byte) error { copy(buf, features); return nil },
			sys.EthtoolGDrvInfo:  func(buf []byte) error { copy(buf, strings); return nil },
		}}
		l := readFake(k)
		if (l.FeaturesError != "") != (l.FeaturesSource == "") {
			t.Errorf("source %q with error %q", l.FeaturesSource, l.FeaturesError)
		}
		if l.FeaturesError != "" && l.Features != nil {
			t.Errorf("features %v with error %q", l.Features, l.FeaturesError)
		}
	})
}
