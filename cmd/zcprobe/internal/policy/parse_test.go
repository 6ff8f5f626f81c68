package policy

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const full = `# A policy that uses everything.
# ---------------------------------------------------------
apiVersion: zcprobe/v1
require: [sendfile.tcp, "hazard.*"]
warn:
  - io_uring
  - nic.*
ignore: [af_xdp]
devices:
  - match: "eth*"
    require: [nic.tx-scatter-gather]
  - match: 5
    ignore: ["nic.*"]
destinations:
  - to: 10.0.0.5:9000
    require: [path.zero-copy]
  - {to: "[fd00::1]:443", from: fd00::2}
limits: {memlock_bytes: 64M, optmem_max_bytes: 131072, pipe_max_bytes: 1M}
service: {uid: 33, memlock_bytes: unlimited}
load: {bandwidth: 25Gbit, rtt: 200us, connections: 1000}
waivers:
  - check: nic.tx-checksum-ipv4
    subject: eth1
    reason: "firmware bug, NET-12"
    expires: 2026-11-21
`

func TestParseFull(t *testing.T) {
	p, err := Parse("p.yaml", []byte(full), today)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Rules); n != 5 {
		t.Errorf("%d rules, want 5: %+v", n, p.Rules)
	}
	if len(p.Devices) != 2 || p.Devices[1].Match != "5" || p.Devices[0].Rules[0].Level != Require {
		t.Errorf("devices %+v", p.Devices)
	}
	if len(p.Destinations) != 2 || p.Destinations[0].To != "10.0.0.5:9000" || p.Destinations[1].From != "fd00::2" {
		t.Errorf("destinations %+v", p.Destinations)
	}
	if *p.Limits.MemlockBytes != 64<<20 || *p.Limits.OptmemMaxBytes != 131072 {
		t.Errorf("limits %+v", p.Limits)
	}
	if *p.Service.UID != 33 || *p.Service.MemlockBytes != ^uint64(0) {
		t.Errorf("service %+v", p.Service)
	}
	if p.Load.BandwidthBytesPerSec != 3_125_000_000 || p.Load.RTT != 200*time.Microsecond || p.Load.Connections != 1000 {
		t.Errorf("load %+v", p.Load)
	}
	if len(p.Waivers) != 1 || p.Waivers[0].Subject != "eth1" {
		t.Errorf("waivers %+v", p.Waivers)
	}
}

func TestParseProblems(t *testing.T) {
	const v = "apiVersion: zcprobe/v1\n"
	for _, c := range []struct{ name, src, want string }{
		{"empty", "", "1:1: empty; a policy starts with apiVersion: zcprobe/v1"},
		{"only a comment", "# nothing\n", "1:1: empty"},
		{"no version", "require: [tee]\n", "1:1: apiVersion is missing"},
		{"other version", "apiVersion: zcprobe/v2\n", `1:13: apiVersion is zcprobe/v1; "zcprobe/v2" is not understood`},
		{"version is a number", "apiVersion: 1\n", "1:13: apiVersion is a string, not a number"},
		{"unknown key", v + "requires: [tee]\n", `2:1: unknown key "requires" in a policy (did you mean require?)`},
		{"unknown nested key", v + "service:\n  user: 5\n", `3:3: unknown key "user" in service`},
		{"unknown check", v + "require:\n  - sendfile.tcp\n  - msg_zerocopy.tcp\n", `4:5: unknown check "msg_zerocopy.tcp" (did you mean msg_zerocopy.tcp4?)`},
		{"pattern without a match", v + "warn: [\"foo.*\"]\n", `2:8: no check matches "foo.*"`},
		{"not a list", v + "require: tee\n", "2:10: require is a list, not a string"},
		{"a number in a list", v + "require: [5]\n", "2:11: a check is a string, not a number"},
		{"empty entry", v + "require:\n  -\n  - tee\n", "3:3: require has an empty entry"},
		{"no value", v + "require:\n", "2:1: require has no value"},
		{"twice", v + "require: [tee]\nwarn: [tee]\n", "3:8: tee is named twice, first on line 2"},
		{"duplicate key", v + "require: [tee]\nrequire: [vmsplice]\n", "3:1: mapping key \"require\" already defined"},
		{"top is a list", "- a\n- b\n", "1:1: a policy is a mapping, not a list"},
		{"top is a string", "hello\n", "1:1: a policy is a mapping, not a string"},
		{"bad YAML", v + "require: [tee\n", "2:10: "},
		{"tab indent", v + "service:\n\tuid: 5\n", "3:"},
		{"second document", v + "---\napiVersion: zcprobe/v1\n", "3:"},
		{"anchor", v + "require: &a [tee]\n", "2:10: require is a list, not an anchor"},
		{"control character", v + "require: [\x1b]\n", "2:11: control character"},
		{"device without match", v + "devices:\n  - require: [nic.tx-scatter-gather]\n", "3:5: a device needs match"},
		{"device without rules", v + "devices:\n  - match: eth0\n", "3:5: device eth0 has no rules"},
		{"device pattern", v + "devices:\n  - match: \"[\"\n    require: [nic.tx-scatter-gather]\n", "3:12: match: \"[\" is no pattern"},
		{"device with another check", v + "devices:\n  - match: eth0\n    require: [tap.none]\n", "4:15: tap.none cannot be scoped here"},
		{"destination without to", v + "destinations:\n  - require: [path.zero-copy]\n", "3:5: a destination needs to"},
		{"destination twice", v + "destinations: [{to: a}, {to: a}]\n", "2:25: destination a is named twice"},
		{"limit", v + "limits: {memlock_bytes: lots}\n", `2:25: memlock_bytes: "lots" is no size`},
		{"limit of wrong type", v + "limits: {memlock_bytes: [1]}\n", "2:25: memlock_bytes is a number or a string, not a list"},
		{"negative limit", v + "limits: {memlock_bytes: -1}\n", "2:25: memlock_bytes: \"-1\" is no size"},
		{"uid", v + "service: {uid: -1}\n", "2:16: uid is a number from 0 to 4294967294, not -1"},
		{"uid as a name", v + "service: {uid: www}\n", "2:16: uid is a number, not a string"},
		{"bandwidth", v + "load: {bandwidth: 10G}\n", `2:19: bandwidth: "10G" is no bandwidth`},
		{"rtt", v + "load: {rtt: 5}\n", "2:13: rtt is a string, not a number"},
		{"rtt text", v + "load: {rtt: soon}\n", "2:13: rtt is a time such as"},
		{"connections", v + "load: {connections: 0}\n", "2:21: connections is a number from 1"},
		{"waiver without reason", v + "waivers:\n  - {check: tee, expires: 2027-01-01}\n", "3:5: a waiver needs a reason"},
		{"waiver without date", v + "waivers:\n  - {check: tee, reason: x}\n", "3:5: a waiver needs expires"},
		{"waiver with a bad date", v + "waivers:\n  - {check: tee, reason: x, expires: 2027-02-30}\n", "3:38: expires is a date, YYYY-MM-DD"},
		{"waiver of nothing", v + "waivers:\n  - {check: te, reason: x, expires: 2027-02-03}\n", `3:13: unknown check "te" (did you mean tee?)`},
		{"expired waiver", v + "waivers:\n  - check: tee\n    reason: x\n    expires: 2026-11-20\n", "5:14: the waiver of tee expired on 2026-11-20"},
		{"deep", v + "require: " + strings.Repeat("[", 40), "nested deeper than 32 levels"},
		{"many entries on a line", v + "require: \n  " + strings.Repeat("- ", 40), "nested deeper than 32 levels"},
		{"large", v + strings.Repeat("#\n", MaxFile), "1:1: larger than 256 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("p.yaml", []byte(c.src), today)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %+v, error %v; want %q", p, err, c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			for l := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(l, "p.yaml:") {
					t.Errorf("no place in %q", l)
				}
			}
		})
	}
}

func TestParseReportsEverything(t *testing.T) {
	_, err := Parse("p", []byte("apiVersion: zcprobe/v1\nfoo: 1\nrequire: [bar]\nlimits: {x: 1}\n"), today)
	if n := strings.Count(err.Error(), "\n") + 1; n != 3 {
		t.Errorf("%d problems, want 3:\n%v", n, err)
	}
}

func TestDeepestRuleWins(t *testing.T) {
	rules := []Rule{{Pattern: "nic.*", Level: Ignore}, {Pattern: "nic.tx-checksum-*", Level: WarnAt},
		{Pattern: "nic.tx-checksum-ipv4", Level: Require}, {Pattern: "ni*.tx-checksum*", Level: Require}}
	for id, want := range map[string]Level{
		"nic.tx-checksum-ipv4": Require, "nic.tx-checksum-ipv6": WarnAt, "nic.tx-scatter-gather": Ignore,
	} {
		if got, ok := level(rules, id); !ok || got.Level != want {
			t.Errorf("%s: %v %v, want %v", id, got.Level, ok, want)
		}
	}
	if _, ok := level(rules, "tee"); ok {
		t.Error("tee has a level")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("apiVersion: zcprobe/v1\nrequire: [tee]\n---\n- &a *a\n"))
	f.Add([]byte("? !!map {<<: *x}\n: |\n  text\n"))
	f.Add([]byte("a: \"\\x1b\\u202e\"\n'b': {c: [d, {e: f}]}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("p", src, today)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v and error %v", p, err)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || len(e.Problems) == 0) {
			t.Fatalf("error %T without a problem", err)
		}
	})
}
