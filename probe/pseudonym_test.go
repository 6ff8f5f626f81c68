package probe

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func testKey(fill byte) pseudonymKey {
	return pseudonymKey{keyMachine, []byte(strings.Repeat(string(rune(fill)), 16))}
}

func TestAddrPseudonymsKeepFamilyAndClass(t *testing.T) {
	p := newPseudonymizer(testKey('a'))
	for _, c := range []struct{ in, prefix string }{
		{"10.1.2.3", "240.0.0.0/4"},
		{"192.0.2.1", "240.0.0.0/4"},
		{"169.254.7.8", "169.254.0.0/16"},
		{"224.0.0.251", "224.0.0.0/4"},
		{"2600::1", "2001:db8::/32"},
		{"2001:db8:1::2", "2001:db8::/32"},
		{"fd00::7", "2001:db8::/32"},
		{"fe80::5054:ff:fe12:3456", "fe80::/64"},
		{"ff02::fb", "ff02::/16"},
		{"::ffff:10.1.2.3", "::ffff:240.0.0.0/100"},
	} {
		in := netip.MustParseAddr(c.in)
		got := p.addr(in)
		if !netip.MustParsePrefix(c.prefix).Contains(got) || got == in {
			t.Errorf("addr(%s) = %s, want another address in %s", in, got, c.prefix)
		}
		if again := p.addr(in); again != got {
			t.Errorf("addr(%s) = %s, then %s", in, got, again)
		}
	}
	for _, s := range []string{"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "255.255.255.255", "::ffff:127.0.0.1"} {
		if in := netip.MustParseAddr(s); p.addr(in) != in {
			t.Errorf("addr(%s) = %s, want it unchanged", s, p.addr(in))
		}
	}
	if got := p.addr(netip.MustParseAddr("fe80::9%eth0")); got.Zone() != "eth0" {
		t.Errorf("zone of %s is lost", got)
	}
	if p.addr(netip.MustParseAddr("::ffff:10.1.2.3")).Unmap() != p.addr(netip.MustParseAddr("10.1.2.3")) {
		t.Error("a mapped address and its IPv4 form differ")
	}
}

func TestPseudonymsDependOnTheKeyAlone(t *testing.T) {
	a, b, other := newPseudonymizer(testKey('a')), newPseudonymizer(testKey('a')), newPseudonymizer(testKey('b'))
	b.addr(netip.MustParseAddr("10.0.0.1")) // order must not matter
	for _, s := range []string{"10.9.8.7:443", "db.example.com", "[2600::1]:80"} {
		if a.host(s) != b.host(s) {
			t.Errorf("host(%s) differs between two records of one host", s)
		}
		if a.host(s) == other.host(s) {
			t.Errorf("host(%s) is the same on two hosts", s)
		}
	}
	if a.mac("52:54:00:12:34:0a") == other.mac("52:54:00:12:34:0a") || a.path("/srv") == other.path("/srv") {
		t.Error("pseudonyms are the same on two hosts")
	}
}

// Two of 2^28 addresses will meet; different addresses must stay different.
func TestCollidingPseudonymsStayApart(t *testing.T) {
	p := newPseudonymizer(testKey('a'))
	in := netip.MustParseAddr("10.0.0.1")
	taken := newPseudonymizer(testKey('a')).addr(in)
	p.made[taken.String()] = "10.0.0.2"
	if got := p.addr(in); got == taken || !netip.MustParsePrefix("240.0.0.0/4").Contains(got) {
		t.Errorf("addr = %s, which stands for another address", got)
	}
}

func TestHostKeepsPortAndBrackets(t *testing.T) {
	p := newPseudonymizer(testKey('a'))
	for in, want := range map[string]string{
		"10.0.0.1":        p.addr(netip.MustParseAddr("10.0.0.1")).String(),
		"10.0.0.1:80":     p.addr(netip.MustParseAddr("10.0.0.1")).String() + ":80",
		"2600::1":         p.addr(netip.MustParseAddr("2600::1")).String(),
		"[2600::1]:80":    "[" + p.addr(netip.MustParseAddr("2600::1")).String() + "]:80",
		"db.example:9000": p.name("db.example") + ":9000",
		"DB.example.":     p.name("db.example"),
		"localhost:9":     "localhost:9",
		"127.0.0.1:9":     "127.0.0.1:9",
		"":                "",
	} {
		if got := p.host(in); got != want {
			t.Errorf("host(%q) = %q, want %q", in, got, want)
		}
	}
	if n := p.name("db.example"); !strings.HasPrefix(n, "host-") || !strings.HasSuffix(n, ".invalid") {
		t.Errorf("name = %q", n)
	}
}

func TestMACPseudonyms(t *testing.T) {
	p := newPseudonymizer(testKey('a'))
	got := p.mac("52:54:00:12:34:0A")
	if !strings.HasPrefix(got, "02:") || len(got) != 17 || got != p.mac("52:54:00:12:34:0a") {
		t.Errorf("mac = %q", got)
	}
	ib := strings.Repeat("80:", 19) + "fe"
	if got := p.mac(ib); len(got) != len(ib) || got == ib {
		t.Errorf("mac of 20 bytes = %q", got)
	}
	if got := p.mac("0a:00:00:05"); got == "0a:00:00:05" || len(got) != 11 {
		t.Errorf("mac of a tunnel to 10.0.0.5 = %q", got)
	}
	for _, s := range []string{"", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "none", "10.0.0.1"} {
		if p.mac(s) != s {
			t.Errorf("mac(%q) = %q, want it unchanged", s, p.mac(s))
		}
	}
}

func TestHostKey(t *testing.T) {
	const machine, boot = "0123456789abcdef0123456789abcdef\n", "01234567-89ab-cdef-0123-456789abcdee\n"
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const m, b = "etc/machine-id", "proc/sys/kernel/random/boot_id"
	for _, c := range []struct {
		name, source, want string
		root               fstest.MapFS
	}{
		{"both", "", keyMachine, fstest.MapFS{m: file(machine), b: file(boot)}},
		{"no machine-id", "", keyBoot, fstest.MapFS{b: file(boot)}},
		{"empty machine-id", "", keyBoot, fstest.MapFS{m: file(""), b: file(boot)}},
		{"uninitialized", "", keyBoot, fstest.MapFS{m: file("uninitialized\n"), b: file(boot)}},
		{"nothing", "", keyRandom, fstest.MapFS{}},
		{"asked for boot", keyBoot, keyBoot, fstest.MapFS{m: file(machine), b: file(boot)}},
		{"asked for what is not there", keyMachine, "", fstest.MapFS{b: file(boot)}},
		{"random cannot be had again", keyRandom, "", fstest.MapFS{m: file(machine)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, ok := hostKey(c.root, c.source)
			if k.source != c.want || ok != (c.want != "") {
				t.Errorf("hostKey = %q, %v, want %q", k.source, ok, c.want)
			}
		})
	}
	x, _ := hostKey(fstest.MapFS{}, "")
	y, _ := hostKey(fstest.MapFS{}, "")
	if x.check() == y.check() {
		t.Error("made-up keys are equal")
	}
}

func TestTextScrub(t *testing.T) {
	p := newPseudonymizer(testKey('a'))
	s := scrubber{p: p, release: "5.15.167.4-microsoft-standard-WSL2"}
	for _, host := range []string{"db.example.com:9000", "cache"} {
		s.learn(holdsHost, host)
	}
	s.learn(holdsPath, "/srv/data/")
	ip := func(a string) string { return p.addr(netip.MustParseAddr(a)).String() }
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"route to 10.0.0.5: network is unreachable", "route to " + ip("10.0.0.5") + ": network is unreachable"},
		{"10.0.0.5.", ip("10.0.0.5") + "."},
		{"dial 010.000.000.005:80", "dial " + ip("10.0.0.5") + ":80"},
		{"via 10.0.0.0/8 dev eth0", "via " + ip("10.0.0.0") + "/8 dev eth0"},
		{"to:fe80::1%eth0", "to:" + ip("fe80::1") + "%eth0"},
		{"[2600::5]:443 refused", "[" + ip("2600::5") + "]:443 refused"},
		{"at 2600:0:0:0:0:0:0:5.", "at " + ip("2600::5") + "."},
		{"at 2600:0000:0000:0000:0000:0000:0000:0005, and", "at " + ip("2600::5") + ", and"},
		{"2600::5: no route", ip("2600::5") + ": no route"},
		{"2600::5.More", ip("2600::5") + ".More"},
		{"::ffff:10.0.0.5", ip("::ffff:10.0.0.5")},
		{"26000000000000000000000000000005", strings.ReplaceAll(p.addr(netip.MustParseAddr("2600::5")).StringExpanded(), ":", "")},
		{"lladdr 52:54:00:12:34:0a", "lladdr " + p.mac("52:54:00:12:34:0a")},
		{"52-54-00-12-34-0A", p.mac("52-54-00-12-34-0a")},
		{"enx525400123456.7 is down", "enx" + p.mac("525400123456") + ".7 is down"},
		{"lookup db.example.com: no such host", "lookup " + p.name("db.example.com") + ": no such host"},
		{"lookup cache on 10.0.0.5:53: timeout", "lookup " + p.name("cache") + " on " + ip("10.0.0.5") + ":53: timeout"},
		{"cache", "cache"}, // a word by itself may be anything
		{"open /srv/data/my/file: permission denied", "open " + p.path("/srv/data") + ": permission denied"},
		{"open /srv/database: permission denied", "open /srv/database: permission denied"},
		{"/boot/config-5.15.167.4-microsoft-standard-WSL2", "/boot/config-5.15.167.4-microsoft-standard-WSL2"},
		// What only looks like one.
		{"0000:00:06.0", "0000:00:06.0"}, {"12:30:45", "12:30:45"}, {"4096 131072 6291456", "4096 131072 6291456"},
		{"::", "::"}, {"127.0.0.1:5", "127.0.0.1:5"}, {"splice::read", "splice::read"}, {"a1.2.3.4b", "a1.2.3.4b"},
		{"999.1.1.1", "999.1.1.1"}, {"5.10.0-32-amd64", "5.10.0-32-amd64"},
	} {
		if got := s.text(c.in); got != c.want {
			t.Errorf("text(%q)\n got %q\nwant %q", c.in, got, c.want)
		}
	}
}

func FuzzTextScrub(f *testing.F) {
	for _, s := range []string{"a 10.0.0.5 b", "fe80::1%x:::", "::::", "1.2.3.4.5.6", "52:54:00:12:34:0a:", "...:...", "\xff10.0.0.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		s := scrubber{p: newPseudonymizer(testKey('a'))}
		got := s.text("see 10.20.30.40 " + v + " and 2600::abcd:1 now")
		if strings.Contains(got, "10.20.30.40") || strings.Contains(got, "2600::abcd:1") {
			t.Errorf("an address came through: %q", got)
		}
	})
}

// A field that nobody thought of must not carry an address into a record.
func TestForgottenFieldsAreScrubbed(t *testing.T) {
	f := &Facts{}
	const leak = "peer 10.20.30.40 2600::abcd:1 52:54:00:aa:bb:cc"
	fill := func(_, _ string) string { return leak }
	grow(reflect.ValueOf(f).Elem())
	f = mapStrings(reflect.ValueOf(f), holdsText, fill).Interface().(*Facts)
	f.Host.Kernel = "6.12.0"
	out := pseudonymous(f, newPseudonymizer(testKey('a')))
	n := 0
	mapStrings(reflect.ValueOf(out), holdsText, func(tag, s string) string {
		n++
		for _, bad := range []string{"10.20.30.40", "2600::abcd:1", "52:54:00:aa:bb:cc"} {
			if strings.Contains(s, bad) {
				t.Errorf("a string tagged %q keeps %s", tag, s)
			}
		}
		return s
	})
	if n < 70 {
		t.Errorf("only %d strings were looked at", n)
	}
}

// Tunnels have an IP address for a hardware address, which no text shows.
func TestTunnelHardwareAddress(t *testing.T) {
	f := &Facts{Networks: []Network{{Links: []Link{{Index: 1, Name: "tunl0", MAC: "0a:14:1e:28"}}}}}
	out := pseudonymous(f, newPseudonymizer(testKey('a')))
	if got := out.Networks[0].Links[0].MAC; got == "0a:14:1e:28" || len(got) != 11 {
		t.Errorf("10.20.30.40 came through as %q", got)
	}
}

// grow gives every list and map one element and every pointer a target.
func grow(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		grow(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		grow(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		grow(key)
		grow(value)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			grow(v.Field(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	}
}
