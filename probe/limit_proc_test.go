package probe

import (
	"math"
	"slices"
	"testing"
)

const limitsText = "Limit                     Soft Limit           Hard Limit           Units     \n" +
	"Max cpu time              unlimited            unlimited            seconds   \n" +
	"Max open files            1024                 524288               files     \n" +
	"Max locked memory         65536                unlimited            bytes     \n" +
	"Max nice priority         0                    0                    \n"

func TestParseLimits(t *testing.T) {
	got, err := parseLimits([]byte(limitsText))
	if err != nil || got["Max locked memory"] != (Rlimit{65536, math.MaxUint64}) || got["Max open files"] != (Rlimit{1024, 524288}) || len(got) != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"x\nMax locked memory", "x\nMax locked memory         65536  ", "x\nMax locked memory         -1                   0 bytes\n",
		"x\nMax locked memory         18446744073709551616 0 bytes\n", "x\n\n"} {
		if got, err := parseLimits([]byte(bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	// The kernel writes a line break in a name as \n.
	got, err := parseStatus([]byte("Name:\tx\\nUid:\\t0\nState:\tR (running)\nUid:\t1000\t0\t0\t0\nGroups:\t4 24 1000 \n" +
		"VmLck:\t      64 kB\nVmPin:\t       0 kB\nCapEff:\t0000000000004000\nSeccomp:\t2\n"))
	if err != nil || !got.complete || got.uid != 1000 || got.capEff != 1<<capIPCLock || got.seccomp != "filter" ||
		!slices.Equal(got.groups, []int{4, 24, 1000}) || *got.vmLck != 65536 || *got.vmPin != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct {
		in       string
		complete bool
		ok       bool
	}{
		{"", false, true},
		{"Uid:\t0\t0\t0\t0\n", false, true},
		{"Uid:\t0\nCapEff:\t0\n", true, true}, // a kernel thread has no Vm lines
		{"Uid:\n", false, false},
		{"Uid:\t-1\n", false, false},
		{"Uid:\t4294967296\n", false, false},
		{"CapEff:\tx\n", false, false},
		{"Groups:\tx\n", false, false},
		{"VmLck:\t1 MB\n", false, false},
		{"VmPin:\t18446744073709551615 kB\n", false, false},
		{"no colon\n", false, false},
	} {
		if got, err := parseStatus([]byte(c.in)); (err == nil) != c.ok || got.complete != c.complete {
			t.Errorf("%q: %+v, %v", c.in, got, err)
		}
	}
}

func FuzzParseLimitFiles(f *testing.F) {
	f.Add([]byte(limitsText))
	f.Add([]byte("Name:\tsh\nUid:\t1000\t0\t0\t0\nGroups:\t4 24 \nVmPin:\t       0 kB\nCapEff:\t0000000000004000\nSeccomp:\t2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseLimits(b); err != nil && got != nil {
			t.Error("limits and an error")
		}
		_, _ = parseStatus(b)
	})
}
