package probe

import (
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// template is what a policy needs to transform packets; no state is there, so
// nothing is ever sent.
const template = " tmpl src 10.1.0.1 dst 10.1.0.2 proto esp mode transport"

func TestPathIPsec(t *testing.T) {
	for _, c := range []struct {
		name     string
		policies []string // of ip xfrm policy add
		to       string
		tcp, udp string
	}{
		{"none", nil, "10.1.0.2", ipsecNone, ipsecNone},
		{"applies", []string{"src 10.1.0.0/24 dst 10.1.0.2/32 dir out" + template}, "10.1.0.2", ipsecApplies, ipsecApplies},
		{"another destination", []string{"src 10.1.0.0/24 dst 10.1.0.3/32 dir out" + template}, "10.1.0.2", ipsecNone, ipsecNone},
		{"another source", []string{"src 10.9.0.0/24 dst 10.1.0.2/32 dir out" + template}, "10.1.0.2", ipsecNone, ipsecNone},
		{"incoming", []string{"src 10.1.0.0/24 dst 10.1.0.2/32 dir in" + template}, "10.1.0.2", ipsecNone, ipsecNone},
		{"one protocol", []string{"dst 10.1.0.2/32 proto 17 dir out" + template}, "10.1.0.2", ipsecNone, ipsecApplies},
		{"one port", []string{"dst 10.1.0.2/32 proto 6 dport 443 dir out" + template}, "10.1.0.2:443", ipsecApplies, ipsecNone},
		{"another port", []string{"dst 10.1.0.2/32 proto 6 dport 443 dir out" + template}, "10.1.0.2:80", ipsecNone, ipsecNone},
		{"port not known", []string{"dst 10.1.0.2/32 proto 6 dport 443 dir out" + template}, "10.1.0.2", ipsecLikely, ipsecNone},
		{"exempted first", []string{
			"dst 10.1.0.2/32 dir out priority 9" + template, "dst 10.1.0.0/24 dir out priority 3",
		}, "10.1.0.2", ipsecNone, ipsecNone},
		{"exempted too late", []string{
			"dst 10.1.0.2/32 dir out priority 3" + template, "dst 10.1.0.0/24 dir out priority 9",
		}, "10.1.0.2", ipsecApplies, ipsecApplies},
		{"blocked", []string{"dst 10.1.0.2/32 dir out action block"}, "10.1.0.2", ipsecBlock, ipsecBlock},
		{"own address", []string{"dst 10.1.0.1/32 dir out" + template}, "10.1.0.1", ipsecNone, ipsecNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := testenv.NewNetNS(t)
			setUp(t, ns, sink("s0", "10.1.0.1")...)
			for _, p := range c.policies {
				if _, err := ns.Try("ip", append([]string{"xfrm", "policy", "add"}, strings.Fields(p)...)...); err != nil {
					t.Skipf("needs a kernel with IPsec policies: %v", err)
				}
			}
			f := collectIn(t, ns, c.to)
			q := f.Paths[0]
			if q.IPsecTCP != c.tcp || q.IPsecUDP != c.udp {
				t.Errorf("TCP %q, UDP %q, want %q, %q", q.IPsecTCP, q.IPsecUDP, c.tcp, c.udp)
			}
			r := judgePath(f, Options{To: c.to})
			checkPath(t, r)
			a := row(t, r, "sendfile", "tcp", "file", tcpLarge)
			switch c.tcp {
			case ipsecApplies:
				if describeRow(a) != "1 1 ipsec-sw/crypto checksum-pass/crypto" || r.Verdict.Status != Fail {
					t.Errorf("%s; %+v", describeRow(a), r.Verdict)
				}
			case ipsecLikely:
				if a.ZeroCopy != ZeroCopyUnknown || r.Verdict.Status != Unknown {
					t.Errorf("%+v; %+v", a, r.Verdict)
				}
			case ipsecBlock:
				if !off(a.Supported) || r.Verdict.Status != Fail {
					t.Errorf("%+v; %+v", a, r.Verdict)
				}
			default:
				if describeRow(a) != "0 0" {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// The capability that policies need is given up again.
func TestPathIPsecCapability(t *testing.T) {
	ns := testenv.NewNetNS(t)
	var before, during, after sys.Caps
	var err error
	ns.Do(func() {
		err = onProbeThread(t.Context(), func() error {
			before, _ = sys.ThreadCaps()
			if err := withNetAdmin(func() error { during, _ = sys.ThreadCaps(); return nil }); err != nil {
				return err
			}
			after, _ = sys.ThreadCaps()
			return nil
		})
	})
	if err != nil || before != after || before.Has(sys.CapNetAdmin) || !during.Has(sys.CapNetAdmin) || during.Has(sys.CapSysModule) {
		t.Errorf("%v: before %x, during %x, after %x", err, before.Effective, during.Effective, after.Effective)
	}
}
