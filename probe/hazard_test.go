package probe

import (
	"strings"
	"testing"
)

func TestEarlyCompletion(t *testing.T) {
	const name = "net.ipv4.tcp_mtu_probing"
	sysctl := func(v string) map[string]string { return map[string]string{name: v} }
	for _, c := range []struct {
		what   string
		f      Facts
		want   CheckStatus
		detail string
		remedy string
	}{
		{"off", Facts{Host: HostFacts{Sysctls: sysctl("0")}}, Pass, "is 0", ""},
		{"after a black hole", Facts{Host: HostFacts{Sysctls: sysctl("1")}}, Fail, "corrupts", "sysctl -w net.ipv4.tcp_mtu_probing=0"},
		{"always", Facts{Host: HostFacts{Sysctls: sysctl("2")}}, Fail, "is 2", "sysctl -w"},
		{"not read", Facts{}, Unknown, "could not be read", ""},
		{"not read, why", Facts{Host: HostFacts{SysctlErrors: sysctl("ENOENT")}}, Unknown, "ENOENT", ""},
		{"no number", Facts{Host: HostFacts{Sysctls: sysctl("x")}}, Unknown, `"x"`, ""},
		{"read with the limits", Facts{Limits: LimitFacts{Sysctls: sysctl("1")}}, Fail, "is 1", "sysctl"},
		{"of another process", Facts{Host: HostFacts{Sysctls: sysctl("0")}, Limits: LimitFacts{PID: 7, Sysctls: sysctl("1")}}, Fail, "pid 7", "nsenter -t 7 -n sysctl"},
		{"of this namespace, not of the process", Facts{Host: HostFacts{Sysctls: sysctl("1")}, Limits: LimitFacts{PID: 7, Sysctls: sysctl("0")}}, Fail, "probing is 1", "sysctl"},
		{"of another process, not read", Facts{Host: HostFacts{Sysctls: sysctl("0")}, Limits: LimitFacts{PID: 7}}, Unknown, "pid 7 could not", ""},
		{"of another process, both off", Facts{Host: HostFacts{Sysctls: sysctl("0")}, Limits: LimitFacts{PID: 7, Sysctls: sysctl("0")}}, Pass, "is 0", ""},
	} {
		h := earlyCompletion(&c.f)
		if h.Status != c.want || !strings.Contains(h.Detail, c.detail) || !strings.HasPrefix(h.Remedy, strings.Split(c.remedy, " ")[0]) || (h.Remedy == "") != (c.remedy == "") {
			t.Errorf("%s: %+v, want %s, %q, %q", c.what, h, c.want, c.detail, c.remedy)
		}
	}
}

func TestLossHazards(t *testing.T) {
	step := func(op, errno string) []Step { return []Step{{Op: op, Errno: errno}} }
	for _, c := range []struct {
		what   string
		id     string
		o      Outcome
		want   CheckStatus
		detail string
	}{
		{"all arrive", "udp-splice-csum-loss", Outcome{Seen: map[string]int64{"received_even": 1, "received_corked": 1, "received_odd": 1}}, Pass, "arrive"},
		{"corked ones are lost", "udp-splice-csum-loss", Outcome{Seen: map[string]int64{"received_even": 1, "received_corked": 0, "received_odd": 1}}, Fail, "wrong checksum"},
		{"odd ones are lost", "udp-splice-csum-loss", Outcome{Seen: map[string]int64{"received_even": 1, "received_corked": 1, "received_odd": 0}}, Fail, "wrong checksum"},
		{"one is enough", "udp-splice-csum-loss", Outcome{Seen: map[string]int64{"received_even": 1, "received_corked": 0}}, Fail, "wrong checksum"},
		{"nothing arrives at all", "udp-splice-csum-loss", Outcome{Seen: map[string]int64{"received_even": 0, "received_corked": 0, "received_odd": 0}}, Unknown, "not even"},
		{"half tried", "udp-splice-csum-loss", Outcome{Steps: step("splice", "EPERM"), Seen: map[string]int64{"received_even": 1, "received_corked": 1}}, Unknown, "EPERM"},
		{"not tried", "udp-splice-csum-loss", Outcome{NotTried: "no loopback"}, Unknown, "no loopback"},
		{"refused", "udp-sendfile-loss", Outcome{Steps: step("sendfile", "EMSGSIZE"), Seen: map[string]int64{"received": 0}}, Pass, "EMSGSIZE"},
		{"lost", "udp-sendfile-loss", Outcome{Seen: map[string]int64{"returned": 61440, "received": 0}}, Fail, "returned 61440 bytes and 0 arrived"},
		{"arrived", "udp-sendfile-loss", Outcome{Seen: map[string]int64{"returned": 61440, "received": 61440}}, Pass, "all arrived"},
		{"receiver broke", "udp-sendfile-loss", Outcome{Seen: map[string]int64{"returned": 61440}}, Unknown, "did not come"},
		{"filtered", "udp-sendfile-loss", Outcome{Steps: step("sendfile", "EPERM")}, Unknown, "EPERM"},
		{"not tried", "udp-sendfile-loss", Outcome{NotTried: "no loopback"}, Unknown, "no loopback"},
	} {
		c.o.ID = "hazard." + c.id
		h := hazardNamed(judgeHazards(&Facts{Outcomes: []Outcome{c.o}}), c.id)
		if h.Status != c.want || !strings.Contains(h.Detail, c.detail) || (h.Remedy != "") != (c.want == Fail) {
			t.Errorf("%s, %s: %+v, want %s, %q", c.id, c.what, h, c.want, c.detail)
		}
	}
	for _, h := range judgeHazards(&Facts{})[:3] {
		if h.Status != Unknown || h.Detail == "" {
			t.Errorf("without facts: %+v", h)
		}
	}
}

// Every hazard of the catalogue is judged, and only those.
func TestHazardsOfCatalogue(t *testing.T) {
	for _, dirs := range [][]DirFacts{nil, {{Path: "/srv", FSType: "ext4"}}} {
		seen := map[string]int{}
		for _, h := range judgeHazards(&Facts{Dirs: dirs}) {
			seen[h.ID]++
			if c, ok := LookupCause(h.ID); !ok || c.Kind != KindHazard {
				t.Errorf("%s is no hazard of the catalogue", h.ID)
			}
			if h.Detail == "" || h.Evidence == nil {
				t.Errorf("incomplete %+v", h)
			}
		}
		for _, c := range Causes() {
			if c.Kind == KindHazard && seen[c.ID] != 1 {
				t.Errorf("%s is judged %d times", c.ID, seen[c.ID])
			}
		}
	}
}

func TestDirHazards(t *testing.T) {
	dir := func(edit func(*DirFacts)) DirFacts {
		d := DirFacts{Path: "/srv", FSType: "ext4", Options: []string{"rw"}, SuperOptions: []string{"rw"}, FilesSeen: 5, FilesLooked: 5, FilesTried: 2,
			Outcomes: []Outcome{{ID: "dir.sendfile", Seen: map[string]int64{"equal": 2}}, {ID: "dir.splice", Seen: map[string]int64{"equal": 2}}}}
		edit(&d)
		return d
	}
	resend := func(stale int64) Outcome {
		return Outcome{ID: "dir.resend", Seen: map[string]int64{"equal": 1, "stale": stale}}
	}
	for _, c := range []struct {
		what              string
		d                 DirFacts
		live, stale, tail CheckStatus
		detail            string // of stale-source
	}{
		{"ext4", dir(func(*DirFacts) {}), Warn, Pass, Warn, "one page cache"},
		{"all immutable", dir(func(d *DirFacts) { d.Immutable = 5 }), Pass, Pass, Pass, "immutable"},
		{"all but one", dir(func(d *DirFacts) { d.Immutable = 4 }), Warn, Pass, Warn, ""},
		{"all that were seen, of more", dir(func(d *DirFacts) { d.Immutable, d.More = 5, true }), Warn, Pass, Warn, ""},
		{"all that were looked at, of more", dir(func(d *DirFacts) { d.Immutable, d.FilesSeen = 5, 6 }), Warn, Pass, Warn, ""},
		{"empty", dir(func(d *DirFacts) { d.FilesSeen, d.FilesLooked, d.FilesTried = 0, 0, 0 }), Warn, Pass, Warn, ""},
		{"read-only mount", dir(func(d *DirFacts) { d.Options = []string{"ro"} }), Warn, Pass, Warn, ""},
		{"read-only file system", dir(func(d *DirFacts) { d.SuperOptions = []string{"ro"} }), Pass, Pass, Pass, ""},
		{"squashfs", dir(func(d *DirFacts) { d.FSType = "squashfs" }), Pass, Pass, Pass, ""},
		{"overlay, read-only", dir(func(d *DirFacts) { d.FSType, d.SuperOptions = "overlay", []string{"ro"} }), Warn, Pass, Warn, ""},
		{"NFS, read-only", dir(func(d *DirFacts) { d.FSType, d.SuperOptions = "nfs4", []string{"ro"} }), Warn, Warn, Warn, "changed by others"},
		{"NFS, our own change comes through", dir(func(d *DirFacts) { d.FSType = "nfs4"; d.Outcomes = append(d.Outcomes, resend(0)) }), Warn, Warn, Warn, "this side do come through"},
		{"FUSE", dir(func(d *DirFacts) { d.FSType = "fuse.sshfs" }), Warn, Warn, Warn, "direct-io"},
		{"shared folder", dir(func(d *DirFacts) { d.FSType = "vboxsf" }), Warn, Warn, Warn, "host"},
		{"shared folder, by its number", dir(func(d *DirFacts) { d.FSType, d.FSMagic = "", 0x786f4256 }), Warn, Warn, Warn, "vboxsf"},
		{"stale", dir(func(d *DirFacts) { d.Outcomes = append(d.Outcomes, resend(1)) }), Warn, Fail, Warn, "old content"},
		{"differs", dir(func(d *DirFacts) { d.Outcomes[0].Seen["differ"] = 1 }), Warn, Fail, Warn, "other bytes"},
		{"splice differs", dir(func(d *DirFacts) { d.Outcomes[1].Seen["differ"] = 1 }), Warn, Fail, Warn, "other bytes"},
		{"not known", dir(func(d *DirFacts) { d.FSType = "newfs" }), Warn, Unknown, Warn, "newfs"},
		{"procfs", dir(func(d *DirFacts) { d.FSType = "proc" }), Skipped, Skipped, Skipped, "makes content"},
		{"not read", DirFacts{Path: "/srv", Error: "open /srv: permission denied", Errno: "EACCES"}, Unknown, Unknown, Unknown, "denied"},
	} {
		hs := judgeHazards(&Facts{Dirs: []DirFacts{c.d}})
		for _, w := range []struct {
			id   string
			want CheckStatus
		}{{"live-source", c.live}, {"stale-source", c.stale}, {"truncated-tail", c.tail}} {
			h := hazardNamed(hs, w.id)
			if h.Status != w.want || h.Subject != "/srv" || (h.Remedy != "") != (h.Status == Warn || h.Status == Fail) {
				t.Errorf("%s: %+v, want %s", c.what, h, w.want)
			}
			if w.id == "stale-source" && !strings.Contains(h.Detail, c.detail) {
				t.Errorf("%s: %q, want %q", c.what, h.Detail, c.detail)
			}
		}
	}
	for _, h := range judgeHazards(&Facts{})[3:] {
		if h.Status != Skipped || h.Detail != noDir {
			t.Errorf("without a directory: %+v", h)
		}
	}
}
