package probe

import (
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// addFilter attaches a filter that matches everything and does nothing.
func addFilter(t *testing.T, ns *testenv.NetNS, dev, hook string) {
	t.Helper()
	_, err := ns.Try("tc", "filter", "add", "dev", dev, hook, "protocol", "all", "prio", "1",
		"u32", "match", "u32", "0", "0", "classid", "1:1")
	if err != nil {
		t.Skipf("needs the tc classifier u32: %v", err)
	}
}

func tcOf(t *testing.T, ns *testenv.NetNS, dev string) (ingress, egress string) {
	t.Helper()
	var n Network
	ns.Do(func() {
		if err := onProbeThread(t.Context(), func() error {
			n = findNamespaces(liveSources()).readNetwork(t.Context(), "")
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	for _, l := range n.Links {
		if l.Name == dev {
			return l.TCIngress, l.TCEgress
		}
	}
	t.Fatalf("no %s in %+v", dev, n)
	return "", ""
}

func TestReadTC(t *testing.T) {
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	if in, out := tcOf(t, ns, "va"); in != "" || out != "" {
		t.Errorf("new veth: ingress %q, egress %q, want none", in, out)
	}
	ns.Run("tc", "qdisc", "add", "dev", "va", "clsact")
	if in, out := tcOf(t, ns, "va"); in != "" || out != "" {
		t.Errorf("clsact without filters: ingress %q, egress %q, want none", in, out)
	}
	addFilter(t, ns, "va", "ingress")
	if in, out := tcOf(t, ns, "va"); in != "filter" || out != "" {
		t.Errorf("ingress filter: ingress %q, egress %q", in, out)
	}
	addFilter(t, ns, "va", "egress")
	if in, out := tcOf(t, ns, "va"); in != "filter" || out != "filter" {
		t.Errorf("both filters: ingress %q, egress %q", in, out)
	}
	if in, out := tcOf(t, ns, "vb"); in != "" || out != "" {
		t.Errorf("the other device: ingress %q, egress %q", in, out)
	}
}

// A filter on the receiving device may drop or redirect what routing would
// deliver: nothing may be claimed beyond it.
func TestPathEndsAtFilter(t *testing.T) {
	near, far := testenv.NewNetNS(t), testenv.NewNetNS(t)
	near.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", far.Path())
	near.Run("ip", "addr", "add", "192.0.2.1/24", "dev", "va")
	near.Run("ip", "link", "set", "va", "up")
	far.Run("ip", "addr", "add", "192.0.2.2/24", "dev", "vb")
	far.Run("ip", "link", "set", "vb", "up")

	zeroCopy := func() ZeroCopy {
		o := Options{To: "192.0.2.2:9"}
		var f *Facts
		near.Do(func() {
			var err error
			if f, err = Collect(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
		for _, a := range Judge(f, o).Path.APIs {
			if a.API == "sendfile" && a.Protocol == "tcp" {
				return a.ZeroCopy
			}
		}
		t.Fatal("no row for sendfile to TCP")
		return ""
	}
	if got := zeroCopy(); got != ZeroCopyYes {
		t.Errorf("without a filter: sendfile zero-copy %s, want yes", got)
	}
	far.Run("tc", "qdisc", "add", "dev", "vb", "clsact")
	addFilter(t, far, "vb", "ingress")
	if got := zeroCopy(); got != ZeroCopyUnknown {
		t.Errorf("with an ingress filter: sendfile zero-copy %s, want unknown", got)
	}
}
