package probe

import (
	"slices"
	"strings"
	"testing"
)

func capture(net, device string, ifindex int) TapFact {
	return TapFact{Net: net, Device: device, Ifindex: ifindex, Protocol: ethPAll, Running: true,
		Inode: 7, PID: 42, Comm: "tcpdump", IgnoreOutgoing: new(false)}
}

func TestTapJudgement(t *testing.T) {
	edit := func(t TapFact, fn func(*TapFact)) TapFact { fn(&t); return t }
	own := capture("", "eth0", 2)
	for _, c := range []struct {
		name   string
		tap    TapFact
		global *bool
		want   *bool
		detail string
	}{
		{"capture on a device", own, nil, new(true), "captures on eth0"},
		{"capture on any device", capture("", "", 0), nil, new(true), "every device"},
		{"ignores outgoing", edit(own, func(t *TapFact) { t.IgnoreOutgoing = new(true) }), nil, new(false), "PACKET_IGNORE_OUTGOING"},
		{"option unreadable", edit(own, func(t *TapFact) { t.IgnoreOutgoing = nil }), nil, nil, "could not read"},
		{"one protocol", edit(own, func(t *TapFact) { t.Protocol = 0x88cc }), nil, new(false), "0x88cc"},
		{"one protocol, option unreadable", edit(own, func(t *TapFact) { t.Protocol, t.IgnoreOutgoing = 0x800, nil }), nil, new(false), "0x0800"},
		{"protocol 0", edit(own, func(t *TapFact) { t.Protocol = 0 }), nil, new(false), "receives nothing"},
		{"not running", edit(own, func(t *TapFact) { t.Running = false }), nil, new(false), "receives nothing"},
		{"device gone, still marked running", edit(own, func(t *TapFact) { t.Device, t.Ifindex = "", -1 }), nil, new(true), "device index -1"},
		{"kernel handler", TapFact{Protocol: ethPAll, Handler: "av_hook"}, nil, new(true), "av_hook"},
		{"elsewhere, any device, one list", capture("ns1", "", 0), new(true), new(true), "one any-device list"},
		{"elsewhere, any device, list per namespace", capture("ns1", "", 0), new(false), new(false), "namespace ns1 only"},
		{"elsewhere, any device, could not tell", capture("ns1", "", 0), nil, nil, "perhaps"},
		{"elsewhere, one device, one list", capture("ns1", "eth0", 2), new(true), new(false), "namespace ns1 only"},
		{"elsewhere, ignores outgoing", edit(capture("ns1", "", 0), func(t *TapFact) { t.IgnoreOutgoing = new(true) }), new(true), new(false), "IGNORE_OUTGOING"},
		{"elsewhere, option unreadable, one list", edit(capture("ns1", "", 0), func(t *TapFact) { t.IgnoreOutgoing = nil }), new(true), nil, "could not read"},
		{"elsewhere, option unreadable, list per namespace", edit(capture("ns1", "", 0), func(t *TapFact) { t.IgnoreOutgoing = nil }), new(false), new(false), "only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &Facts{Taps: TapFacts{Taps: []TapFact{c.tap}, GlobalList: c.global}}
			r := judgeTaps(f)[0]
			if !sameBool(r.CopiesOutgoing, c.want) || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("copies %s, %q; want %s and %q", showBool(r.CopiesOutgoing), r.Detail, showBool(c.want), c.detail)
			}
		})
	}
}

func TestTapEffect(t *testing.T) {
	unread := capture("", "eth0", 2)
	unread.IgnoreOutgoing = nil
	deaf := capture("", "", 0)
	deaf.IgnoreOutgoing = new(true)
	seen := TapFacts{Complete: true}
	with := func(f TapFacts, taps ...TapFact) TapFacts { f.Taps = taps; return f }
	for _, c := range []struct {
		name        string
		facts       TapFacts
		net, device string
		want        *bool
		by          int
	}{
		{"nothing there", seen, "", "eth0", new(false), 0},
		{"not read in full", TapFacts{}, "", "eth0", nil, 0},
		{"not read in full, but one found", with(TapFacts{}, capture("", "eth0", 2)), "", "eth0", new(true), 1},
		{"bound to it", with(seen, capture("", "eth0", 2)), "", "eth0", new(true), 1},
		{"bound to another", with(seen, capture("", "lo", 1)), "", "eth0", new(false), 0},
		{"any device", with(seen, capture("", "", 0), capture("", "lo", 1)), "", "eth0", new(true), 1},
		{"ignores outgoing", with(seen, deaf), "", "eth0", new(false), 0},
		{"unreadable", with(seen, unread), "", "eth0", nil, 1},
		{"unreadable and a sure one", with(seen, unread, capture("", "eth0", 2)), "", "eth0", new(true), 1},
		{"elsewhere any, global", with(TapFacts{Complete: true, GlobalList: new(true)}, capture("ns1", "", 0)), "", "eth0", new(true), 1},
		{"elsewhere any, per namespace", with(TapFacts{Complete: true, GlobalList: new(false)}, capture("ns1", "", 0)), "", "eth0", new(false), 0},
		{"elsewhere any, unknown", with(seen, capture("ns1", "", 0)), "", "eth0", nil, 1},
		{"elsewhere same device name", with(seen, capture("ns1", "eth0", 2)), "", "eth0", new(false), 0},
		{"hop in the other namespace", with(seen, capture("ns1", "eth0", 2)), "ns1", "eth0", new(true), 1},
		{"our any-device tap at a hop elsewhere, per namespace", with(TapFacts{Complete: true, GlobalList: new(false)}, capture("", "", 0)), "ns1", "eth0", new(false), 0},
		{"our any-device tap at a hop elsewhere, global", with(TapFacts{Complete: true, GlobalList: new(true)}, capture("", "", 0)), "ns1", "eth0", new(true), 1},
		{"bound to a device without a name", with(seen, capture("ns1", "", 5)), "ns1", "eth0", nil, 1},
		{"hidden namespaces, global", TapFacts{Complete: true, GlobalList: new(true), NamespacesHidden: 2}, "", "eth0", nil, 0},
		{"hidden namespaces, unknown list", TapFacts{Complete: true, NamespacesHidden: 1}, "", "eth0", nil, 0},
		{"hidden namespaces, per namespace", TapFacts{Complete: true, GlobalList: new(false), NamespacesHidden: 2}, "", "eth0", new(false), 0},
		{"hop in a hidden namespace", TapFacts{Complete: true, GlobalList: new(false), NamespacesHidden: 1, Hidden: []string{"ns2"}}, "ns2", "eth0", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why, by := tapEffect(&Facts{Taps: c.facts}, c.net, c.device)
			if !sameBool(got, c.want) || len(by) != c.by || why == "" {
				t.Errorf("copies %s by %d (%s), want %s by %d", showBool(got), len(by), why, showBool(c.want), c.by)
			}
		})
	}
}

func TestTapReportNamesDevice(t *testing.T) {
	for _, c := range []struct {
		tap  TapFact
		want string
	}{
		{capture("", "", 0), ""},
		{capture("", "eth0", 2), "eth0"},
		{capture("ns1", "", 5), "device index 5"}, // not any device
		{capture("", "", -1), "device index -1"},
	} {
		if got := judgeTaps(&Facts{Taps: TapFacts{Taps: []TapFact{c.tap}}})[0].Device; got != c.want {
			t.Errorf("%+v is on %q, want %q", c.tap, got, c.want)
		}
	}
}

func TestTapChecks(t *testing.T) {
	unread := capture("", "eth1", 3)
	unread.IgnoreOutgoing, unread.PID, unread.Comm = nil, 0, ""
	for _, c := range []struct {
		name  string
		facts TapFacts
		want  []string // "subject status"
	}{
		{"nothing", TapFacts{Complete: true}, []string{" pass"}},
		{"not seen", TapFacts{}, []string{" unknown"}},
		{"not seen, one found", TapFacts{Taps: []TapFact{capture("", "eth0", 2)}}, []string{" unknown", "eth0 fail"}},
		{"loopback alone", TapFacts{Complete: true, Taps: []TapFact{capture("", "lo", 1)}}, []string{" pass"}},
		{"two devices, two captures on one", TapFacts{Complete: true, Taps: []TapFact{capture("", "", 0), capture("", "eth0", 2),
			capture("", "eth0", 2), unread}}, []string{" fail", "eth0 fail", "eth1 unknown"}},
		{"elsewhere", TapFacts{Complete: true, GlobalList: new(false), Taps: []TapFact{capture("ns1", "", 0)}}, []string{" pass"}},
		{"elsewhere, one list", TapFacts{Complete: true, GlobalList: new(true), Taps: []TapFact{capture("ns1", "", 0)}}, []string{" fail"}},
		{"hidden, one list", TapFacts{Complete: true, GlobalList: new(true), NamespacesHidden: 1}, []string{" unknown"}},
		{"sure and unsure on one device", TapFacts{Complete: true, Taps: []TapFact{unread, capture("", "eth1", 3)}}, []string{"eth1 fail"}},
	} {
		var got []string
		for _, ch := range tapChecks(&Facts{Taps: c.facts}) {
			got = append(got, ch.Subject+" "+string(ch.Status))
			if ch.ID != "tap.none" || ch.Detail == "" || ch.Evidence == nil || ch.Causes == nil {
				t.Errorf("%s: incomplete check %+v", c.name, ch)
			}
			if (ch.Status == Fail) != (len(ch.Causes) > 0 && ch.Remedy != "") {
				t.Errorf("%s: causes and remedy go with a failure, got %+v", c.name, ch)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTapNames(t *testing.T) {
	many := []TapReport{{PID: 1, Comm: "lldpd"}, {PID: 2}, {Handler: "hook"}, {NetNS: "ns1"}, {}}
	for n, want := range []string{"", "lldpd (pid 1)", "lldpd (pid 1) and pid 2",
		"lldpd (pid 1), pid 2 and kernel handler hook", "lldpd (pid 1), pid 2, kernel handler hook and 1 more"} {
		if got := tapNames(many[:n]); got != want {
			t.Errorf("%d taps: %q, want %q", n, got, want)
		}
	}
}

func sameBool(a, b *bool) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

func showBool(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "true"
	}
	return "false"
}
