package hosttest_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

// Every recorded host must be judged, and the report be as published.
func TestRecordedHostsAreJudged(t *testing.T) {
	n := 0
	hosttest.Each(t, func(t *testing.T, f *probe.Facts) {
		n++
		o := probe.Options{}
		if len(f.Paths) > 0 {
			o.To = f.Paths[0].Asked
		}
		r := probe.Judge(f, o)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		hosttest.Validate(t, "probe.v1", b)
		if r.Path == nil {
			t.Fatal("no path")
		}
		if b, err = json.Marshal(r.Path); err != nil {
			t.Fatal(err)
		}
		hosttest.Validate(t, "path.v1", b)
		if again, err := json.Marshal(probe.Judge(f, o).Path); err != nil || string(again) != string(b) {
			t.Error("two judgements of the same facts differ")
		}
	})
	if n < 80 {
		t.Errorf("%d hosts, want 80 and more", n)
	}
}

// A path is zero-copy for lent pages only where every device has scatter-gather
// and a checksum, whatever else is said.
func TestRecordedPathsFollowTheCard(t *testing.T) {
	seen := map[probe.ZeroCopy]int{}
	hosttest.Each(t, func(t *testing.T, f *probe.Facts) {
		if f.Paths[0].Asked == "localhost" {
			return
		}
		r := probe.Judge(f, probe.Options{To: f.Paths[0].Asked}).Path
		var nic probe.Link
		for _, l := range f.Networks[0].Links {
			if l.HasDev {
				nic = l
			}
		}
		csum := nic.Features["tx-checksum-ip-generic"].Active || nic.Features["tx-checksum-ipv4"].Active
		want := probe.ZeroCopyNo
		if nic.Features["tx-scatter-gather"].Active && csum {
			want = probe.ZeroCopyYes
		}
		for _, a := range r.APIs {
			if a.API != "msg_zerocopy" && a.API != "sendfile" || a.Protocol != "tcp" || a.Source != "memory" && a.Source != "file" {
				continue
			}
			seen[a.ZeroCopy]++
			if a.ZeroCopy != want {
				t.Errorf("%s of %d bytes is zero-copy %q, want %q: %s", a.API, a.SizeBytes, a.ZeroCopy, want, a.Detail)
			}
		}
	})
	if seen[probe.ZeroCopyYes] < 40 || seen[probe.ZeroCopyNo] < 40 {
		t.Errorf("hosts are one-sided: %v", seen)
	}
}

// The records are in public: nothing in them names a machine.
func TestRecordedHostsHoldNoAddress(t *testing.T) {
	token := regexp.MustCompile(`(?i)[0-9a-f.]*[:.][0-9a-f:.]{3,}`)
	allowed := []netip.Prefix{}
	for _, p := range []string{"240.0.0.0/4", "2001:db8::/32", "127.0.0.0/8", "::/127", "0.0.0.0/32", "fe80::/10", "ff00::/8", "224.0.0.0/4", "169.254.0.0/16"} {
		allowed = append(allowed, netip.MustParsePrefix(p))
	}
	mac := regexp.MustCompile(`(?i)\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b`)
	seen := 0
	files, err := filepath.Glob(hosttest.Testdata(t, "hosts", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range token.FindAllString(string(b), -1) {
			a, err := netip.ParseAddr(strings.Trim(s, ":."))
			if err != nil {
				continue
			}
			seen++
			ok := false
			for _, p := range allowed {
				ok = ok || p.Contains(a.Unmap())
			}
			if !ok {
				t.Errorf("%s holds the address %s", file, s)
			}
		}
		for _, s := range mac.FindAllString(string(b), -1) {
			if !strings.HasPrefix(s, "02:") && s != "00:00:00:00:00:00" {
				t.Errorf("%s holds the address %s", file, s)
			}
		}
		if filepath.Base(file) == "meta.json" {
			hosttest.Validate(t, "record.v1", b)
		}
	}
	if seen == 0 {
		t.Error("no address was seen at all, so the search finds none")
	}
}
