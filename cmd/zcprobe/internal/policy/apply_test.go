package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/probe"
)

func find(t *testing.T, r *Result, id, subject string) Check {
	t.Helper()
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.ID == id && c.Subject == subject })
	if i < 0 {
		t.Fatalf("no check %s %s", id, subject)
	}
	return r.Checks[i]
}

func mustParse(t *testing.T, src string) *Policy {
	t.Helper()
	p, err := Parse("p.yaml", []byte("apiVersion: zcprobe/v1\n"+src), today)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// JSON has a list where there is nothing to list; slices.Concat of nothing is nil.
func TestListsAreNeverNull(t *testing.T) {
	in := Input{Report: fixture.Server()}
	for i := range in.Report.Features {
		in.Report.Features[i].Evidence = nil
	}
	for _, c := range Apply(Builtin(in), in).Checks {
		if c.Evidence == nil || c.Causes == nil {
			t.Errorf("%s %s: evidence %#v, causes %#v", c.ID, c.Subject, c.Evidence, c.Causes)
		}
	}
}

func TestBuiltinPolicyOfAGoodServer(t *testing.T) {
	in := Input{Report: fixture.Server()}
	r := Apply(Builtin(in), in)
	if r.Verdict.Status != probe.Warn || r.ExitCode(false) != 0 || r.ExitCode(true) != 1 {
		t.Errorf("verdict %+v, exit %d", r.Verdict, r.ExitCode(false))
	}
	for _, c := range []struct {
		id, subject string
		status      probe.CheckStatus
		level       Level
		detail      string
	}{
		{"sendfile.tcp", "", probe.Pass, Require, ""},
		{"nic.tx-scatter-gather", "eth0", probe.Pass, Require, ""},
		{"nic.tx-scatter-gather", "eth1", probe.Skipped, Ignore, "eth1 is down"},
		{"nic.tx-scatter-gather", "lo", probe.Skipped, Ignore, "loopback"},
		{"nic.tx-udp-segmentation", "eth0", probe.Warn, WarnAt, ""},
		{"ktls.tx", "", probe.Warn, WarnAt, ""},
		{"af_xdp", "", probe.Skipped, Ignore, "Does not matter"},
		{"path.zero-copy", "", probe.Skipped, Ignore, "No destination"},
		{"tracing.any", "", probe.Skipped, WarnAt, "not tried"},
		{"hazard.early-completion", "", probe.Pass, Require, ""},
		{"hazard.live-source", "", probe.Skipped, WarnAt, "no directory"},
	} {
		got := find(t, r, c.id, c.subject)
		if got.Status != c.status || got.Level != c.level || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%s %s: %s at %s, %q; want %s at %s, %q", c.id, c.subject, got.Status, got.Level, got.Detail, c.status, c.level, c.detail)
		}
	}
	for _, id := range IDs() {
		if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.ID == id.Name }) {
			t.Errorf("no check %s", id.Name)
		}
	}
}

// Every outcome at every level.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		status  probe.FeatureStatus
		require probe.CheckStatus
		exit    int
		warn    probe.CheckStatus
	}{
		{probe.Supported, probe.Pass, 0, probe.Pass},
		{probe.Unsupported, probe.Fail, 1, probe.Warn},
		{probe.Disabled, probe.Fail, 1, probe.Warn},
		{probe.Denied, probe.Unknown, 3, probe.Warn},
		{probe.UnknownFeature, probe.Unknown, 3, probe.Warn},
		{probe.SkippedFeature, probe.Skipped, 0, probe.Skipped},
		{"a word of tomorrow", probe.Unknown, 3, probe.Warn},
	} {
		r := fixture.Server()
		fixture.Set(r, "tee", "", c.status, "Details.", "")
		in := Input{Report: r}
		res := Apply(mustParse(t, "require: [tee, vmsplice]\n"), in)
		if got := find(t, res, "tee", ""); got.Status != c.require || res.ExitCode(false) != c.exit {
			t.Errorf("%s required: %s, exit %d; want %s, exit %d", c.status, got.Status, res.ExitCode(false), c.require, c.exit)
		}
		res = Apply(mustParse(t, "require: [vmsplice]\nwarn: [tee]\n"), in)
		if got := find(t, res, "tee", ""); got.Status != c.warn || res.ExitCode(false) != 0 {
			t.Errorf("%s at warn: %s, exit %d; want %s, exit 0", c.status, got.Status, res.ExitCode(false), c.warn)
		}
		res = Apply(mustParse(t, "require: [vmsplice]\nignore: [tee]\n"), in)
		if got := find(t, res, "tee", ""); got.Status != probe.Skipped || res.ExitCode(true) != 0 {
			t.Errorf("%s ignored: %s, exit %d", c.status, got.Status, res.ExitCode(true))
		}
		res = Apply(mustParse(t, "require: [tee, vmsplice]\n"), Input{Report: r, Ignore: []string{"te?"}})
		if got := find(t, res, "tee", ""); got.Status != probe.Skipped || res.ExitCode(false) != 0 {
			t.Errorf("%s ignored on the command line: %s, exit %d", c.status, got.Status, res.ExitCode(false))
		}
	}
}

func TestFailBeatsUnknown(t *testing.T) {
	r := fixture.Server()
	fixture.Set(r, "tee", "", probe.Denied, "Denied.", "")
	fixture.Set(r, "vmsplice", "", probe.Unsupported, "No.", "")
	res := Apply(mustParse(t, "require: [tee, vmsplice]\n"), Input{Report: r})
	if res.Verdict.Status != probe.Fail || res.ExitCode(false) != 1 {
		t.Errorf("%+v, exit %d", res.Verdict, res.ExitCode(false))
	}
	if want := "Not ready: 1 of 2 required checks failed (vmsplice)."; res.Verdict.Summary != want {
		t.Errorf("summary %q, want %q", res.Verdict.Summary, want)
	}
}

func TestNothingDecidedIsNoPass(t *testing.T) {
	for src, want := range map[string]int{
		"require: [reflink]\n":                           3, // no directory was given
		"require: [path.zero-copy]\n":                    3,
		"ignore: [tee]\n":                                0,
		"require: [nic.tx-scatter-gather]\n":             0,
		"require: [reflink, tee]\n":                      0,
		"limits: {memlock_bytes: 1}\n":                   0,
		"require: [tee]\nignore: [\"sendfile.*\"]\n":     0,
		"require: [nic.tx-scatter-gather, af_xdp]\n":     3,
		"require: [memfd_secret, af_xdp]\nwarn: [tee]\n": 1,
	} {
		if res := Apply(mustParse(t, src), Input{Report: fixture.Server()}); res.ExitCode(false) != want {
			t.Errorf("%q: exit %d, want %d (%s)", src, res.ExitCode(false), want, res.Verdict.Summary)
		}
	}
	// A host without a way out answers nothing about devices.
	r := fixture.Server()
	r.NICs = r.NICs[:1]
	res := Apply(mustParse(t, "require: [nic.tx-scatter-gather, tee]\n"), Input{Report: r})
	if got := find(t, res, "nic.tx-scatter-gather", ""); got.Status != probe.Unknown || res.ExitCode(false) != 3 {
		t.Errorf("%+v, exit %d", got, res.ExitCode(false))
	}
}

func TestDeviceScopes(t *testing.T) {
	r := fixture.Server()
	fixture.Set(r, "nic.tx-scatter-gather", "eth1", probe.Disabled, "Off.", "ethtool -K eth1 sg on")
	in := Input{Report: r}
	for _, c := range []struct {
		src, id, subject string
		want             probe.CheckStatus
	}{
		{`devices: [{match: "eth*", require: [nic.tx-scatter-gather]}]`, "nic.tx-scatter-gather", "eth1", probe.Fail},
		{`devices: [{match: "eth*", require: [nic.tx-scatter-gather]}]`, "nic.tx-scatter-gather", "eth0", probe.Pass},
		{`devices: [{match: "eth*", warn: ["nic.*"]}]`, "nic.tx-scatter-gather", "eth1", probe.Warn},
		{`devices: [{match: eth1, ignore: ["nic.*"]}, {match: "eth*", require: ["nic.*"]}]`, "nic.tx-scatter-gather", "eth1", probe.Skipped},
		{`devices: [{match: "wlan*", require: [nic.tx-scatter-gather]}]`, "nic.tx-scatter-gather", "wlan*", probe.Fail},
		{`devices: [{match: "wlan*", warn: [nic.tx-scatter-gather]}]`, "nic.tx-scatter-gather", "wlan*", probe.Warn},
	} {
		if got := find(t, Apply(mustParse(t, c.src+"\n"), in), c.id, c.subject); got.Status != c.want {
			t.Errorf("%s: %s is %s, want %s", c.src, c.subject, got.Status, c.want)
		}
	}
}

func TestDestinations(t *testing.T) {
	in := Input{Report: fixture.Server(), Paths: []Path{
		{To: "10.0.0.5:9000", Report: &probe.PathReport{Destination: "10.0.0.5:9000", Local: "10.0.0.1",
			Verdict: probe.Verdict{Status: probe.Fail, Summary: "Copied."}, Hops: []probe.Hop{{Device: "eth1"}},
			Blockers: []probe.PathBlocker{{ID: "no-scatter-gather"}}}},
		{To: "10.0.0.6:9000", Report: &probe.PathReport{Verdict: probe.Verdict{Status: probe.Pass}, Local: "10.0.0.1"}},
	}}
	src := "require: [\"nic.*\"]\ndestinations: [{to: \"10.0.0.5:9000\", %s: [path.zero-copy]}, {to: \"10.0.0.6:9000\"}]\n"
	for lvl, want := range map[string]probe.CheckStatus{"require": probe.Fail, "warn": probe.Warn, "ignore": probe.Skipped} {
		res := Apply(mustParse(t, strings.Replace(src, "%s", lvl, 1)), in)
		got := find(t, res, "path.zero-copy", "10.0.0.5:9000")
		if got.Status != want || !slices.Equal(got.Causes, []string{"no-scatter-gather"}) {
			t.Errorf("%s: %+v, want %s", lvl, got.Check, want)
		}
		if other := find(t, res, "path.zero-copy", "10.0.0.6:9000"); other.Status != probe.Pass || other.Level != Require {
			t.Errorf("other: %+v", other)
		}
		// The devices that matter are those of the paths.
		if sg := find(t, res, "nic.tx-scatter-gather", "eth1"); sg.Status != probe.Pass {
			t.Errorf("eth1, on the path: %+v", sg)
		}
		if sg := find(t, res, "nic.tx-scatter-gather", "eth0"); sg.Status != probe.Skipped {
			t.Errorf("eth0, not on the path: %+v", sg)
		}
	}
	if v6 := find(t, Apply(Builtin(in), in), "nic.tx-checksum-ipv6", "eth1"); v6.Status != probe.Skipped || !strings.Contains(v6.Detail, "No destination is IPv6") {
		t.Errorf("%+v", v6)
	}
}

func TestMinimumLimits(t *testing.T) {
	for _, c := range []struct {
		name, src, id string
		edit          func(*probe.Limits)
		want          probe.CheckStatus
	}{
		{"met", "{optmem_max_bytes: 131072}", "limit.optmem", nil, probe.Pass},
		{"not met", "{optmem_max_bytes: 1M}", "limit.optmem", nil, probe.Fail},
		{"no limit", "{pipe_max_bytes: unlimited}", "limit.pipe", func(l *probe.Limits) { l.PipeMaxBytes = nil }, probe.Pass},
		{"no limit wanted", "{pipe_max_bytes: unlimited}", "limit.pipe", nil, probe.Fail},
		{"not read", "{pipe_max_bytes: 1}", "limit.pipe", func(l *probe.Limits) { l.PipeMaxBytes, l.Unknown = nil, []string{"pipe_max_bytes"} }, probe.Unknown},
		{"exempt", "{memlock_bytes: unlimited}", "limit.memlock", nil, probe.Pass},
		{"not exempt", "{memlock_bytes: unlimited}", "limit.memlock", func(l *probe.Limits) { l.MemlockExempt = false }, probe.Fail},
		{"failed anyway", "{pipe_max_bytes: 1}", "limit.pipe", func(l *probe.Limits) { l.Checks[2].Status = probe.Fail }, probe.Fail},
		{"met, but unknown", "{pipe_max_bytes: 1}", "limit.pipe", func(l *probe.Limits) { l.Checks[2].Status = probe.Unknown }, probe.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fixture.Server()
			if c.edit != nil {
				c.edit(&r.Limits)
			}
			res := Apply(mustParse(t, "require: [\"limit.*\"]\nlimits: "+c.src+"\n"), Input{Report: r})
			if got := find(t, res, c.id, ""); got.Status != c.want {
				t.Errorf("%s: %q, want %s", got.Status, got.Detail, c.want)
			}
		})
	}
}

func TestWaivers(t *testing.T) {
	r := fixture.Server()
	fixture.Set(r, "nic.tx-scatter-gather", "eth0", probe.Disabled, "Off.", "")
	fixture.Set(r, "tee", "", probe.UnknownFeature, "Hm.", "")
	for _, c := range []struct {
		waivers string
		exit    int
	}{
		{"[{check: nic.tx-scatter-gather, reason: old, expires: 2026-11-21}, {check: tee, reason: x, expires: 2026-12-01}]", 0},
		{"[{check: nic.tx-scatter-gather, subject: eth0, reason: old, expires: 2026-11-21}]", 3},
		{"[{check: nic.tx-scatter-gather, subject: eth1, reason: old, expires: 2026-11-21}]", 1},
		{"[{check: tee, reason: old, expires: 2026-11-21}]", 1},
	} {
		res := Apply(mustParse(t, "require: [nic.tx-scatter-gather, tee, vmsplice]\nwaivers: "+c.waivers+"\n"), Input{Report: r})
		if res.ExitCode(true) != c.exit {
			t.Errorf("%s: exit %d, want %d (%s)", c.waivers, res.ExitCode(true), c.exit, res.Verdict.Summary)
		}
		if c.exit == 0 {
			got := find(t, res, "nic.tx-scatter-gather", "eth0")
			if got.Waived == nil || !strings.Contains(got.Detail, "Waived until 2026-11-21 (old): Off.") || !strings.Contains(res.Verdict.Summary, "2 checks are waived") {
				t.Errorf("%+v, %s", got, res.Verdict.Summary)
			}
		}
	}
}

// A frozen host passes its own policy, and fails when it changes.
func TestFreeze(t *testing.T) {
	r := fixture.Server()
	fixture.Set(r, "nic.tx-tcp-segmentation", "eth0", probe.Disabled, "Off.\n- evil\x1b[2J", "")
	r.NICs[1].Name = "e[t\x01h\u202e*"
	for i := range r.Features {
		if r.Features[i].Subject == "eth0" {
			r.Features[i].Subject = r.NICs[1].Name
		}
	}
	in := Input{Report: r, Paths: []Path{{To: "a \"b\"", From: "::1", Report: &probe.PathReport{
		Verdict: probe.Verdict{Status: probe.Unknown, Summary: "Ends here."}, Hops: []probe.Hop{{Device: r.NICs[1].Name}}}}}}
	uid := uint32(33)
	src := Freeze(in, Service{UID: &uid}, "Policy of a host.")
	p, err := Parse("today.yaml", []byte(src), today)
	if err != nil {
		t.Fatalf("%v\n%s", err, src)
	}
	res := Apply(p, in)
	if res.ExitCode(false) != 0 {
		t.Errorf("exit %d: %s\n%s", res.ExitCode(false), res.Verdict.Summary, src)
	}
	if sg := find(t, res, "nic.tx-scatter-gather", r.NICs[1].Name); sg.Level != Require {
		t.Errorf("scatter-gather is at %s\n%s", sg.Level, src)
	}
	for _, id := range []string{"reflink", "dir.sendfile"} {
		if c := find(t, res, id, ""); c.Level != Ignore {
			t.Errorf("%s, which does not apply today, is at %s", id, c.Level)
		}
	}
	for l := range strings.Lines(src) {
		if len(l) > 81 {
			t.Errorf("wider than 80 columns: %q", l)
		}
	}
	if strings.ContainsAny(src, "\x1b\u202e\x01") {
		t.Errorf("control characters in\n%s", src)
	}
	fixture.Set(r, "splice.tcp-tcp", "", probe.Unsupported, "Gone.", "")
	*r.Limits.OptmemMaxBytes = 20480
	res = Apply(p, in)
	if res.Verdict.Summary != "Not ready: 2 of 36 required checks failed (limit.optmem, splice.tcp-tcp)." {
		t.Errorf("%s", res.Verdict.Summary)
	}
}

func TestIDsAreTheContract(t *testing.T) {
	want := strings.Fields(`sendfile.tcp sendfile.udp sendfile.unix sendfile.pipe sendfile.file splice.file-tcp splice.tcp-tcp
		vmsplice tee pipe.resize copy_file_range reflink file.lease dir.sendfile dir.splice memfd.seal memfd_secret
		msg_zerocopy.tcp4 msg_zerocopy.tcp6 msg_zerocopy.udp4 msg_zerocopy.udp6 msg_zerocopy.vsock udp.gso
		io_uring io_uring.send_zc io_uring.sendmsg_zc io_uring.fixed_buffers ktls.tx ktls.tx_zerocopy_ro
		tcp_zerocopy_receive packet_tx_ring af_xdp devmem.tx tcp.cork
		nic.tx-scatter-gather nic.tx-checksum-ipv4 nic.tx-checksum-ipv6 nic.tx-tcp-segmentation
		nic.tx-tcp6-segmentation nic.tx-udp-segmentation path.zero-copy tap.none limit.memlock limit.optmem limit.pipe
		tracing.any hazard.early-completion hazard.udp-splice-csum-loss hazard.udp-sendfile-loss hazard.live-source
		hazard.stale-source hazard.truncated-tail`)
	if got := names(IDs()); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, id := range IDs() {
		for _, c := range id.Causes {
			if _, ok := probe.LookupCause(c); !ok {
				t.Errorf("%s names the unknown cause %s", id.Name, c)
			}
		}
	}
}
