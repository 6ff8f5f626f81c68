package probe_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/zcprobe/zcprobe/probe"
)

// canonical is the list of the design, by kind.
var canonical = map[probe.CauseKind]string{
	probe.KindCopy: `api-copy read-copy file-to-file kernel-crypto
		no-scatter-gather no-tx-csum encap-features vlan-features ndo-features-check
		udp-over-mtu udp-corked udp-linear-head ip-fragment
		no-so-zerocopy fastopen-or-unconnected ulp sockmap mptcp non-zc-proto ktls-hw-copy ktls-hw-fallback vsock-partial
		copy-splice-read odirect-source fuse-direct-io socket-linear-splice udp-splice-copy sendfile-to-pipe
		packet-tap tx-timestamp tun-tap packet-ring-clone
		loopback-delivery veth-routed-ingress
		nfqueue nat-helper checksum-fill tcpmss tc-pull ipsec-sw wireguard macsec ovs-upcall xdp-generic veth-xdp af-xdp-copy
		driver-linearize driver-bounce swiotlb-bounce tcp-mtu-probe tcp-retrans-collapse`,
	probe.KindPass:   `checksum-pass udp-splice-csum tcp-md5-ao`,
	probe.KindHazard: `early-completion udp-splice-csum-loss udp-sendfile-loss live-source stale-source truncated-tail`,
	probe.KindRefused: `memlock-limit optmem-limit gup-efault udp-sendfile-emsgsize page-not-sendable
		fast-path-refused`,
	probe.KindNote: `gso-software qdisc-segment small-send pipe-slots cold-file headers-cow tap-capture
		undrained-completions cork-missing small-splice copy-loop napi-tx-off`,
}

var kindOrder = []probe.CauseKind{probe.KindCopy, probe.KindPass, probe.KindHazard, probe.KindRefused, probe.KindNote}

func TestCatalogueIsTheCanonicalList(t *testing.T) {
	var want []string
	for _, k := range kindOrder {
		for id := range strings.FieldsSeq(canonical[k]) {
			want = append(want, string(k)+" "+id)
		}
	}
	var got []string
	for _, c := range probe.Causes() {
		got = append(got, string(c.Kind)+" "+c.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("catalogue differs from the canonical list and order\n got %q\nwant %q", got, want)
	}
}

func TestEveryCauseIsComplete(t *testing.T) {
	expected := []string{"api-copy", "read-copy", "file-to-file", "kernel-crypto", "loopback-delivery"}
	sentences := regexp.MustCompile(`[.!](\s|$)`)
	for _, c := range probe.Causes() {
		t.Run(c.ID, func(t *testing.T) {
			if !regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`).MatchString(c.ID) {
				t.Error("id is not lower case words joined by dashes")
			}
			if n := utf8.RuneCountInString(c.Summary); n == 0 || n > 53 || strings.ContainsAny(c.Summary, "\n`") {
				t.Errorf("summary has %d characters, want one plain line of at most 53, beside the longest id in 80 columns", n)
			}
			if n := len(sentences.FindAllString(c.Explanation, -1)); n < 2 || n > 5 {
				t.Errorf("explanation has %d sentences", n)
			}
			for name, s := range map[string]string{"explanation": c.Explanation, "shows": c.Shows, "remedy": c.Remedy, "kernels": c.Kernels} {
				if strings.TrimSpace(s) != s || s == "" || strings.Contains(s, "  ") || strings.ContainsAny(s, "\n\t") {
					t.Errorf("%s is empty or badly spaced: %q", name, s)
				}
				if strings.Count(s, "`")%2 != 0 {
					t.Errorf("%s has an unclosed command: %q", name, s)
				}
				if !isASCII(s) {
					t.Errorf("%s has characters outside ASCII: %q", name, s)
				}
			}
			if !strings.Contains(c.Kernels, "verified") && !strings.Contains(c.Kernels, "read") {
				t.Errorf("kernels does not say what was done: %q", c.Kernels)
			}
			if len(c.Mechanisms) == 0 {
				t.Error("no mechanism")
			}
			if c.Expected != slices.Contains(expected, c.ID) {
				t.Errorf("expected = %v", c.Expected)
			}
		})
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// Remedies are pasted: what they name must exist.
func TestRemediesNameWhatExists(t *testing.T) {
	programs := strings.Fields(`ethtool ip iptables iptables-save tc nft nstat ss sysctl bpftool conntrack prlimit tcpdump
		chattr cp cat zcprobe ovs-dpctl`)
	settings := strings.Fields(`LimitMEMLOCK=infinity --ulimit GODEBUG=multipathtcp=0 offload helper=`) // quoted, but no command
	subcommands := strings.Fields(`probe preflight path select trace bench lab recv send explain record`)
	sysctls := strings.Fields(`net.core.tstamp_allow_data net.core.optmem_max net.ipv4.tcp_mtu_probing net.ipv4.tcp_retrans_collapse
		fs.pipe-user-pages-soft`)
	// Long names as ETHTOOL_GSTRINGS gives them, short ones as ethtool(8) defines them.
	features := strings.Fields(`sg tx tso tls-hw-tx-offload tx-udp_tnl-segmentation tx-udp_tnl-csum-segmentation
		tx-udp-segmentation esp-hw-offload`)
	for _, c := range probe.Causes() {
		for i, cmd := range strings.Split(c.Shows+" "+c.Remedy, "`") {
			if i%2 == 0 {
				continue
			}
			w := strings.Fields(cmd)
			switch {
			case slices.Contains(settings, w[0]):
			case !slices.Contains(programs, w[0]):
				t.Errorf("%s: unknown program in %q", c.ID, cmd)
			case w[0] == "zcprobe" && !slices.Contains(subcommands, w[1]):
				t.Errorf("%s: no such subcommand: %q", c.ID, cmd)
			case w[0] == "sysctl":
				name, value, ok := strings.Cut(w[2], "=")
				if w[1] != "-w" || !ok || value == "" || len(w) != 3 || !slices.Contains(sysctls, name) {
					t.Errorf("%s: bad sysctl command %q", c.ID, cmd)
				}
			case w[0] == "ethtool" && w[1] == "-K":
				for j := 3; j < len(w); j += 2 {
					if !slices.Contains(features, w[j]) || j+1 == len(w) || w[j+1] != "on" {
						t.Errorf("%s: bad ethtool command %q", c.ID, cmd)
					}
				}
			}
		}
	}
}

func TestLookupCause(t *testing.T) {
	c, ok := probe.LookupCause("packet-tap")
	if !ok || c.ID != "packet-tap" || c.Kind != probe.KindCopy {
		t.Errorf("LookupCause(packet-tap) = %+v, %v", c, ok)
	}
	for _, id := range []string{"", "no-such", "Packet-Tap", "hazard.live-source"} {
		if c, ok := probe.LookupCause(id); ok {
			t.Errorf("LookupCause(%q) found %q", id, c.ID)
		}
	}
}

// What a caller does to its copy must not reach the next caller.
func TestCausesAreTheCallers(t *testing.T) {
	a := probe.Causes()
	a[0].ID, a[0].Mechanisms[0] = "spoiled", "spoiled"
	slices.Reverse(a)
	if b := probe.Causes(); b[0].ID != "api-copy" || b[0].Mechanisms[0] != probe.AtSend {
		t.Errorf("catalogue was changed by a caller: %+v", b[0])
	}
	c, _ := probe.LookupCause("api-copy")
	c.Mechanisms[0] = "spoiled"
	if b := probe.Causes(); b[0].Mechanisms[0] != probe.AtSend {
		t.Error("catalogue was changed through LookupCause")
	}
}

// What the probe names, explain must know, as something the probe can
// establish and with the mechanism it is named with; and nothing else claims to
// be predicted.
func TestCatalogueAgreesWithTheProbe(t *testing.T) {
	// Established by a feature's own detail, without naming the cause.
	byDetail := strings.Fields(`cold-file copy-splice-read file-to-file sendfile-to-pipe udp-sendfile-emsgsize`)
	named := map[string]bool{}
	for file := range productFiles(t, "*.go", "../cmd/zcprobe/internal/policy/*.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 1 {
				checkMechanism(t, call)
			}
			if s, ok := literal(n); ok {
				if c, ok := probe.LookupCause(strings.TrimPrefix(s, "hazard.")); ok {
					named[c.ID] = true
				}
			}
			return true
		})
	}
	for _, c := range probe.Causes() {
		if want := named[c.ID] || slices.Contains(byDetail, c.ID); c.Predicted != want {
			t.Errorf("%s: predicted is %v, want %v", c.ID, c.Predicted, want)
		}
	}
}

// checkMechanism looks at calls like copied("id", AtSend, ...).
func checkMechanism(t *testing.T, call *ast.CallExpr) {
	s, ok := literal(call.Args[0])
	at, isName := call.Args[1].(*ast.Ident)
	if !ok || !isName || !strings.HasPrefix(at.Name, "At") {
		return
	}
	c, ok := probe.LookupCause(s)
	if !ok {
		t.Errorf("%q is not in the catalogue", s)
		return
	}
	for _, m := range c.Mechanisms {
		if strings.EqualFold("At"+strings.ReplaceAll(string(m), "-", ""), at.Name) {
			return
		}
	}
	t.Errorf("%s is named with %s, which is not among its mechanisms %v", s, at.Name, c.Mechanisms)
}

func literal(n ast.Node) (string, bool) {
	l, ok := n.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// productFiles parses the sources that match, but for tests and the catalogue.
func productFiles(t *testing.T, patterns ...string) iter.Seq[*ast.File] {
	return func(yield func(*ast.File) bool) {
		for _, p := range patterns {
			names, err := filepath.Glob(p)
			if err != nil || len(names) == 0 {
				t.Fatalf("no sources %s: %v", p, err)
			}
			for _, name := range names {
				if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "catalogue") {
					continue
				}
				f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
				if err != nil {
					t.Fatal(err)
				}
				if !yield(f) {
					return
				}
			}
		}
	}
}
