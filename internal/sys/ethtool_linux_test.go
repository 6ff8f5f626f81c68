package sys

import (
	"encoding/binary"
	"errors"
	"syscall"
	"testing"
)

func TestEthtoolIoctls(t *testing.T) {
	e, err := OpenEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if name, err := e.NameOf(1); err != nil || name != "lo" {
		t.Errorf("device 1 is %q, %v", name, err)
	}
	if name, err := e.NameOf(0x7fffffff); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("a device that does not exist is %q, %v", name, err)
	}
	sg := binary.NativeEndian.AppendUint32(nil, EthtoolGSG)
	sg = append(sg, 0, 0, 0, 0)
	if err := e.Do("lo", sg); err != nil || binary.NativeEndian.Uint32(sg[4:]) != 1 {
		t.Errorf("scatter-gather of lo: %v, %v", sg, err)
	}
	// Too long or empty names and short buffers do not reach the kernel.
	for _, name := range []string{"", "sixteen-bytes-xx", "lo"} {
		buf := sg
		if name == "lo" {
			buf = sg[:4]
		}
		if err := e.Do(name, buf); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%q with %d bytes: %v", name, len(buf), err)
		}
	}
}

func TestThreadCaps(t *testing.T) {
	c := Caps{Effective: 1<<CapNetAdmin | 1<<40}
	if !c.Has(CapNetAdmin) || !c.Has(40) || c.Has(CapSysModule) {
		t.Errorf("wrong bits of %+v", c)
	}
}
