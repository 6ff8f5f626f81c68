package probe

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		line string
		want mountEntry
		ok   bool
	}{
		{"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
			mountEntry{36, "/mnt2", []string{"rw", "noatime"}, "ext3", []string{"rw", "errors=continue"}}, true},
		{`40 35 0:53 / /a\040b\011c\134 ro - fuse.sshfs user@h:\040x rw,user_id=0`,
			mountEntry{40, "/a b\tc\\", []string{"ro"}, "fuse.sshfs", []string{"rw", "user_id=0"}}, true},
		{"41 35 0:54 / /x rw shared:1 master:2 propagate_from:3 - tmpfs none rw", mountEntry{41, "/x", []string{"rw"}, "tmpfs", []string{"rw"}}, true},
		{"42 35 0:54 / /x\x1b[2J\u2003 rw - overlay overlay rw,lowerdir=/a\\054b:/c", // a comma in a value
			mountEntry{42, "/x\x1b[2J\u2003", []string{"rw"}, "overlay", []string{"rw", "lowerdir=/a,b:/c"}}, true},
		{"42 35 0:54 / /x rw shared:1", mountEntry{}, false},
		{"42 35 0:54 / /x - tmpfs none rw", mountEntry{}, false},
		{"x 35 0:54 / /x rw - tmpfs none rw", mountEntry{}, false},
		{"", mountEntry{}, false},
	} {
		got, err := parseMount(c.line)
		if (err == nil) != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.line, got, err, c.want)
		}
	}
}

func TestFindMount(t *testing.T) {
	table := []byte("garbage\n1 0 8:1 / / rw - ext4 /dev/a rw\n12 1 0:5 / /proc rw - proc proc rw\n2 1 0:6 / /s rw - sysfs sysfs rw\n")
	if m, ok := findMount(table, 2); !ok || m.point != "/s" {
		t.Errorf("%+v, %v", m, ok)
	}
	if m, ok := findMount(table, 3); ok {
		t.Errorf("%+v", m)
	}
	for in, want := range map[string]int{"pos:\t0\nflags:\t02\nmnt_id:\t27\nino:\t9\n": 27, "pos:\t0\n": -1, "mnt_id:\t-1\n": -1, "mnt_id:\n": -1} {
		if got, err := parseMountID([]byte(in)); (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func FuzzFindMount(f *testing.F) {
	f.Add([]byte("36 35 98:0 /mnt1 /mnt2\\040 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"), 36)
	f.Add([]byte("mnt_id:\t27\n"), 27)
	f.Fuzz(func(t *testing.T, b []byte, id int) {
		m, ok := findMount(b, id)
		if ok && m.id != id {
			t.Errorf("found %+v", m)
		}
		if id, err := parseMountID(b); err == nil && id < 0 {
			t.Errorf("mount %d", id)
		}
		if s := string(b); !strings.Contains(s, `\`) && unescapeOctal(s) != s {
			t.Errorf("%q changed without an escape", s)
		}
	})
}
