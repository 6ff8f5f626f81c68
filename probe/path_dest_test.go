package probe

import (
	"net/netip"
	"testing"
)

func TestParseDestination(t *testing.T) {
	for _, c := range []struct {
		in, host, addr string
		port           uint16
	}{
		{"db.example", "db.example", "", 0},
		{"db.example:443", "db.example", "", 443},
		{"localhost:1", "localhost", "", 1},
		{"10.0.0.1", "10.0.0.1", "10.0.0.1", 0},
		{"10.0.0.1:65535", "10.0.0.1", "10.0.0.1", 65535},
		{"::1", "::1", "::1", 0},
		{"2001:db8::1:80", "2001:db8::1:80", "2001:db8::1:80", 0}, // an address, not a port
		{"[::1]", "::1", "::1", 0},
		{"[::1]:80", "::1", "::1", 80},
		{"fe80::1%eth0", "fe80::1%eth0", "fe80::1%eth0", 0},
		{"[fe80::1%eth0.5]:53", "fe80::1%eth0.5", "fe80::1%eth0.5", 53},
		{"::ffff:10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.1", 0},
		{"a-b.c_d", "a-b.c_d", "", 0},
		{"1and1.com", "1and1.com", "", 0},
	} {
		d, err := parseDestination(c.in)
		var addr netip.Addr
		if c.addr != "" {
			addr = netip.MustParseAddr(c.addr)
		}
		if err != nil || d.host != c.host || d.port != c.port || d.addr != addr {
			t.Errorf("%s: got %+v, %v", c.in, d, err)
		}
	}
	for _, bad := range []string{
		"", ":", ":80", "host:", "host:0", "host:65536", "host:http", "host:-1", "host:+1", "host: 80", "[::1", "[::1]80",
		"[::1]:", "[]", "[10.0.0.1]:80", "[host]:80", "a b", "a\nb", "a\x7f", "10.0.0", "10.0.0.256", "1.2.3.4.5:1",
		"fe80::1%", "http://host", "host/24", "user@host", "::1::", "10.0.0.1%eth0",
	} {
		if d, err := parseDestination(bad); err == nil {
			t.Errorf("%q: no error, %+v", bad, d)
		}
	}
}

func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"host:1", "[::1]:80", "fe80::1%eth0", "", "::", "[", "a:b:c", "10.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDestination(s)
		if err != nil && d != (destination{}) {
			t.Fatalf("%q: %+v with error %v", s, d, err)
		}
		if err != nil {
			return
		}
		if d.host == "" || (d.addr.IsValid() && d.addr.String() == "") {
			t.Fatalf("%q: no host: %+v", s, d)
		}
		if again, err := parseDestination(d.host); err != nil || again.host != d.host || again.addr != d.addr {
			t.Fatalf("%q: the host %q is read as %+v, %v", s, d.host, again, err)
		}
	})
}
