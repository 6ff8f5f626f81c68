package probe

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// What the kernel tells us must be what it tells ip(8).
func TestRouteAgreesWithIP(t *testing.T) {
	ns := testenv.NewNetNS(t)
	setUp(t, ns, append(append(sink("s0", "10.1.0.1"), sink("s1", "10.2.0.1")...), []string{
		"addr add 10.1.0.5/24 dev s0",
		"addr add fd00::1/64 dev s0 nodad",
		"addr add fe80::1/64 dev s0 nodad",
		"route add default via 10.1.0.254",
		"route add 10.9.0.0/24 via 10.2.0.254 src 10.2.0.1 mtu 1300",
		"route add blackhole 10.10.0.0/16",
		"route add unreachable 10.11.0.0/16",
		"route add prohibit 10.12.0.0/16",
		"route add 10.13.0.0/16 via 10.2.0.254 table 99",
		"rule add uidrange 0-0 to 10.13.0.0/16 table 99",
		"rule add ipproto tcp dport 443 to 10.14.0.0/16 lookup 98",
		"route add 10.14.0.0/16 via 10.2.0.254 table 98",
		"route add 10.15.0.0/16 via inet6 fe80::9 dev s1",
		"route add fd01::/64 via fd00::9",
		"route add unreachable fd02::/64",
	}...)...)
	for _, c := range []struct {
		to, from string
		args     string // of ip route get, besides the address
	}{
		{to: "10.1.0.7"}, {to: "192.0.2.1"}, {to: "10.9.0.1"}, {to: "10.10.0.1"}, {to: "10.11.0.1"}, {to: "10.12.0.1"},
		{to: "10.13.0.1", args: "uid 0"}, {to: "10.14.0.1:443", args: "ipproto tcp dport 443"}, {to: "10.14.0.1:80", args: "ipproto tcp dport 80"},
		{to: "10.15.0.1"}, {to: "10.1.0.1"}, {to: "10.1.0.255"}, {to: "224.0.0.9"}, {to: "127.0.0.1"}, {to: "255.255.255.255"},
		{to: "192.0.2.1", from: "10.1.0.5", args: "from 10.1.0.5"}, {to: "192.0.2.1", from: "10.99.0.1", args: "from 10.99.0.1"},
		{to: "fd00::7"}, {to: "fd01::1"}, {to: "fd02::1"}, {to: "fd00::1"}, {to: "2001:db8::1"}, {to: "::1"},
		{to: "fe80::7%s0", args: "oif s0"},
	} {
		t.Run(strings.ReplaceAll(c.to, ":", "_")+" "+c.args, func(t *testing.T) {
			o := Options{To: c.to, From: c.from}
			var f *Facts
			var err error
			ns.Do(func() { f, err = Collect(t.Context(), o) })
			if err != nil {
				t.Fatal(err)
			}
			r := judgePath(f, o)
			if r.Error != "" {
				t.Fatal(r.Error)
			}
			a := f.Routes[0]
			host, _, _ := strings.Cut(f.Paths[0].Addr, "%")
			out, err := ns.Try("ip", append([]string{"-j", "route", "get", host}, strings.Fields(c.args)...)...)
			if err != nil {
				if a.Errno == "" {
					t.Errorf("answer %+v, ip says %v", a, err)
				}
				if r.Verdict.Status != Fail || !strings.Contains(r.Verdict.Summary, "No route to "+host) {
					t.Errorf("verdict %+v", r.Verdict)
				}
				for _, api := range r.APIs {
					if !off(api.Supported) || api.ZeroCopy != ZeroCopyNo {
						t.Errorf("%+v", api)
					}
				}
				return
			}
			var want []struct {
				Type, Dev, Gateway, Prefsrc string
				Via                         struct{ Host string }
				Metrics                     []struct{ MTU int }
			}
			if err := json.Unmarshal([]byte(out), &want); err != nil || len(want) != 1 {
				t.Fatalf("%v: %s", err, out)
			}
			w := want[0]
			if w.Type == "" {
				w.Type = routeUnicast
			}
			if w.Gateway == "" {
				w.Gateway = w.Via.Host
			}
			mtu := 0
			if len(w.Metrics) > 0 {
				mtu = w.Metrics[0].MTU
			}
			got := []any{a.Type, linkName(f, a.OIF), a.Gateway, a.PrefSrc, a.MTU, a.Errno}
			if want := []any{w.Type, w.Dev, w.Gateway, w.Prefsrc, mtu, ""}; !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			if local := cmp.Or(w.Prefsrc, c.from); r.Local != local {
				t.Errorf("local address %s, want %s", r.Local, local)
			}
			dev := w.Dev
			if w.Type == routeLocal {
				dev = "lo"
			}
			if len(r.Hops) == 0 || r.Hops[0].Device != dev {
				t.Errorf("hops %v, want %s first", r.Hops, dev)
			}
		})
	}
}

func linkName(f *Facts, index int) string {
	for _, l := range f.Networks[0].Links {
		if l.Index == index {
			return l.Name
		}
	}
	return ""
}

// A record of a path, with addresses or pseudonyms, gives the same prediction
// as the live host, whatever the path needs to know.
func TestPathReplay(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*testing.T) bench
	}{
		{"veth", benchVeth},
		{"routed", benchRoutedDelivered},
		{"container", benchContainerRouted},
		{"bridge", benchBridgeOwnSink},
		{"macvlan sibling", benchMacvlanSibling},
		{"vxlan", tunnelled(benchVeth, vxlan)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			f := collectIn(t, b.from, b.to)
			want := judgePath(f, Options{To: b.to})
			for _, open := range []bool{true, false} {
				dir := filepath.Join(t.TempDir(), "r")
				if err := WriteRecord(dir, f, RecordOptions{WithAddresses: open}); err != nil {
					t.Fatal(err)
				}
				g, err := ReadRecord(dir)
				if err != nil {
					t.Fatal(err)
				}
				got := judgePath(g, Options{To: g.Paths[0].Asked})
				if open && !reflect.DeepEqual(got, want) {
					t.Errorf("from the record: %s\nlive: %s", jsonOf(t, got), jsonOf(t, want))
				}
				if !reflect.DeepEqual(got.APIs, want.APIs) || hopNames(got) != hopNames(want) {
					t.Errorf("with pseudonyms: %s\nlive: %s", jsonOf(t, got), jsonOf(t, want))
				}
				if os.RemoveAll(dir) != nil {
					t.Error("the record stays")
				}
			}
		})
	}
}

// A destination that is none, or that no resolver knows, is an error; it is
// recorded as one.
func TestPathErrors(t *testing.T) {
	ns := testenv.NewNetNS(t)
	for to, want := range map[string]string{
		"[::1":       "missing ']'",
		"host:0":     "port",
		"10.0.0.1:x": "port",
	} {
		f := collectIn(t, ns, to)
		r := judgePath(f, Options{To: to})
		if !strings.Contains(r.Error, want) || r.Verdict.Status != Unknown || r.Hops == nil || r.APIs == nil {
			t.Errorf("%s: %s", to, jsonOf(t, r))
		}
	}
	var f *Facts
	o := Options{To: "10.0.0.1", From: "eth0"}
	var err error
	ns.Do(func() { f, err = Collect(t.Context(), o) })
	if err != nil {
		t.Fatal(err)
	}
	if r := judgePath(f, o); !strings.Contains(r.Error, "source address") {
		t.Errorf("%s", jsonOf(t, r))
	}
	if r := judgePath(f, Options{To: "10.0.0.2"}); !strings.Contains(r.Error, "holds no path to 10.0.0.2") {
		t.Errorf("%s", jsonOf(t, r))
	}
}

// nameList resolves names from a list, and the name "slow" never.
type nameList map[string][]string

func (n nameList) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if host == "slow" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var addrs []netip.Addr
	for _, a := range n[host] {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	if addrs == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

// Of several addresses the first that has a route is taken.
func TestPathNames(t *testing.T) {
	ns := testenv.NewNetNS(t)
	setUp(t, ns, append(sink("s0", "10.1.0.1"), "addr add fd00::1/64 dev s0 nodad")...)
	names := nameList{
		"both.example": {"2001:db8::1", "10.2.0.9", "10.1.0.9", "fd00::9"}, "six.example": {"fd00::9"},
		"far.example": {"10.2.0.9", "10.3.0.9"}, "mapped.example": {"::ffff:10.1.0.9", "10.1.0.9"},
	}
	for _, c := range []struct{ to, from, addr, err string }{
		{to: "both.example:80", addr: "10.1.0.9"},
		{to: "both.example", from: "fd00::1", addr: "fd00::9"},
		{to: "far.example", addr: "10.2.0.9"},
		{to: "mapped.example", addr: "10.1.0.9"},
		{to: "none.example", err: "look up none.example: no such host"},
		{to: "six.example", from: "10.1.0.1", err: "no address of the family"},
		{to: "slow", err: "look up slow: context deadline exceeded"},
	} {
		o := Options{To: c.to, From: c.from}
		f := &Facts{}
		ns.Do(func() {
			s := liveSources()
			s.names = names
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if c.to == "slow" {
				ctx, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
			}
			defer cancel()
			tab := findNamespaces(s)
			f.Networks = []Network{tab.readNetwork(ctx, "")}
			collectPath(ctx, s, tab, f, o)
		})
		q := f.Paths[0]
		if q.Addr != c.addr || !strings.Contains(q.Error, c.err) || (q.Error == "") != (c.err == "") {
			t.Errorf("%s from %q: %+v", c.to, c.from, q)
		}
		r := judgePath(f, o)
		if c.err == "" && !strings.Contains(r.Destination, c.addr) {
			t.Errorf("%s: shown as %q", c.to, r.Destination)
		}
		if c.err != "" && r.Error != q.Error {
			t.Errorf("%s: error %q", c.to, r.Error)
		}
	}
}
