package ebpf

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// literals returns the strings that stand in the files of this package, of its tests or
// of the others.
func literals(t *testing.T, tests bool) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if s, err := strconv.Unquote(l.Value); err == nil {
					for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(" []/", r) }) {
						found[word] = true
					}
				}
			}
			return true
		})
	}
	return found
}

// TestObserved: the catalogue says of those causes that tracing shows them that are named
// here, and of no others, and each of them has a test.
func TestObserved(t *testing.T) {
	named, tested := literals(t, false), literals(t, true)
	for _, c := range probe.Causes() {
		if c.Observed != named[c.ID] {
			t.Errorf("%s: the catalogue says observed %v, and here it is named: %v", c.ID, c.Observed, named[c.ID])
		}
		if c.Observed && !tested[c.ID] {
			t.Errorf("%s: no test here names it", c.ID)
		}
	}
}

// TestCallers: a packet that is made linear, private or copied whole, by who wanted that.
func TestCallers(t *testing.T) {
	for _, c := range []struct {
		kind   factKind
		caller string
		want   string
	}{
		{factLinearize, "nfqnl_enqueue_packet", "nfqueue"},
		{factSegment, "xfrm_output_gso", "ipsec-sw"},
		{factLinearize, "esp_output_head", "ipsec-sw"},
		{factLinearize, "esp6_output_head", "ipsec-sw"},
		{factSegment, "wg_xmit", "wireguard"},
		{factLinearize, "macsec_encrypt", "macsec"},
		{factWhole, "macsec_start_xmit", "macsec"},
		{factLinearize, "__nf_nat_mangle_tcp_packet", "nat-helper"},
		{factLinearize, "nf_nat_mangle_udp_packet", "nat-helper"},
		{factLinearize, "tcpmss_mangle_packet", "tcpmss"},
		{factLinearize, "checksum_tg", "checksum-fill"},
		{factLinearize, "bpf_skb_pull_data", "tc-pull"},
		{factSegment, "queue_gso_packets", "ovs-upcall"},
		{factLinearize, "ip_do_fragment", "ip-fragment"},
		{factLinearize, "dev_hard_start_xmit", "driver-linearize"},
		{factWhole, "dev_hard_start_xmit", "driver-bounce"},
		{factPrivate, "tun_net_xmit", "tun-tap"},
		{factPrivate, "__skb_tstamp_tx", "tx-timestamp"},
		{factPrivate, "skb_clone", "packet-ring-clone"},
	} {
		found, ok := judgeFact(fact{kind: c.kind, callers: []string{"first", c.caller, "last"}, bytes: 1000})
		entry, known := probe.LookupCause(found.id)
		if !ok || found.id != c.want || found.bytes != 1000 || !known || !entry.Observed {
			t.Errorf("%s: %+v, not %s", c.caller, found, c.want)
		}
	}
	if found, ok := judgeFact(fact{kind: factWhole, callers: []string{"skb_copy_for_a_monitor"}}); ok {
		t.Errorf("a packet that nobody sends is copied: %+v", found)
	}
	tunnel := observation{place: placeDoor, memory: memoryLinear, was: memoryUser, evidence: seenEncap, bytes: 1000}
	if found := judgeDevice(tunnel); len(found) != 1 || found[0].id != "encap-features" {
		t.Errorf("inside a tunnel: %+v", found)
	}
}
