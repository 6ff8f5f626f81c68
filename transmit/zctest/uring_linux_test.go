package zctest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const ringInfo = `pos:	0
flags:	02000002
SqMask:	0x7f
SqHead:	3
SqTail:	5
CqHead:	5
SQEs:	2
    3: opcode:SEND_ZC, fd:28, flags:0, off:0, addr:0x18da4a0b0000, rw_flags:0x4040, buf_index:0 user_data:4294967296
  127: opcode:POLL_ADD, fd:-1, flags:1f, off:18446744073709551615, addr:0x0, rw_flags:0x0, buf_index:0 user_data:7, e0:0x0, e1:0x0
CQEs:	1
    4: user_data:7, res:1, flag:2
SqThread:	-1
SqThreadCpu:	-1
UserFiles:	0
UserBufs:	1
    0: 0x18da4a0b0000/65536
`

func TestParseRequests(t *testing.T) {
	want := []request{
		{index: 3, operation: "SEND_ZC", fd: 28, addr: 0x18da4a0b0000, userData: 1 << 32},
		{index: 127, operation: "POLL_ADD", fd: -1, flags: 0x1f, off: 1<<64 - 1, userData: 7},
	}
	if got, err := parseRequests(ringInfo); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, change := range map[string][2]string{
		"a thread":   {"SqThread:\t-1", "SqThread:\t77"},
		"not listed": {"SQEs:\t2", "SQEs:\t3"},
		"no count":   {"SQEs:", "Entries:"},
		"a number":   {"off:0,", "off:many,"},
		"an index":   {"  127:", "  12x:"},
	} {
		if !strings.Contains(ringInfo, change[0]) {
			t.Fatalf("%s: nothing to change", name)
		}
		if got, err := parseRequests(strings.ReplaceAll(ringInfo, change[0], change[1])); err == nil || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzParseRequests(f *testing.F) {
	f.Add(ringInfo)
	f.Add("SQEs:\t0\n")
	f.Add("SQEs:\t1\n1:opcode:")
	f.Fuzz(func(t *testing.T, info string) {
		got, err := parseRequests(info)
		if err != nil && got != nil {
			t.Errorf("both %v and %v", got, err)
		}
		if len(got) > strings.Count(info, "opcode:") {
			t.Errorf("%d requests of %q", len(got), info)
		}
	})
}

func TestParseArrays(t *testing.T) {
	const maps = `00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x
7f5a2c000000-7f5a2c002000 rw-s 10000000 00:0e 1043 anon_inode:[io_uring]
7f5a2d000000-7f5a2d002000 rw-s 00000000 00:0e 1043 anon_inode:[io_uring]
7f5a2e000000-7f5a2e002000 rw-s 10000000 00:0e 1043 anon_inode:[other]
nonsense
`
	if got := parseArrays(maps); !slices.Equal(got, []uint64{0x7f5a2c000000}) {
		t.Errorf("%#x", got)
	}
}

func FuzzParseArrays(f *testing.F) {
	f.Add("7f5a2c000000-7f5a2c002000 rw-s 10000000 00:0e 1043 anon_inode:[io_uring]\n")
	f.Fuzz(func(t *testing.T, maps string) { parseArrays(maps) })
}

func FuzzTracerTexts(f *testing.F) {
	f.Add("12:34")
	f.Add("Name:\tx\nState:\tS (sleeping)\nTracerPid:\t0\n")
	f.Add("\nState:\tZ (zombie)\nTracerPid:\t77\n")
	f.Fuzz(func(t *testing.T, text string) {
		if pid, mark, err := parseSpec(text); err == nil {
			if p, m, err := parseSpec(fmt.Sprintf("%d:%d", pid, mark)); err != nil || p != pid || m != mark {
				t.Errorf("%q: %d and %d, then %d and %d, %v", text, pid, mark, p, m, err)
			}
		}
		if by, _ := parseStatus(text); by != 0 && !strings.Contains(text, "TracerPid") {
			t.Errorf("%q: traced by %d", text, by)
		}
	})
}
