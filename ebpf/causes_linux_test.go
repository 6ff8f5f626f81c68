package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// TestPrivateByCaller names who had pages of the application replaced, by the function
// that did, whose names differ between kernels.
func TestPrivateByCaller(t *testing.T) {
	for _, c := range []struct {
		callers  string // the nearest first
		evidence evidence
		want     string
	}{
		{"tun_net_xmit dev_hard_start_xmit", 0, "tun-tap/driver"},
		{"__skb_tstamp_tx __dev_queue_xmit", 0, "tx-timestamp/clone"},
		{"dev_queue_xmit_nit", 0, "packet-tap/clone"},
		{"deliver_skb __netif_receive_skb_core", 0, "packet-tap/ingress"},
		{"deliver_skb __netif_receive_skb_core", seenLocal, "loopback-delivery/ingress"},
		{"deliver_skb", seenLoopback, "loopback-delivery/ingress"},
		{"__netif_receive_skb_core", seenTapIn, "packet-tap/ingress"},
		{"__netif_receive_skb_core", seenTapIn | seenLocal, "loopback-delivery/ingress"}, // it was to be delivered in any case
		{"__netif_receive_skb_core", seenForwarding, "veth-routed-ingress/ingress"},
		{"__netif_receive_skb_one_core", 0, "loopback-delivery/ingress"},
		{"ip_protocol_deliver_rcu", 0, "loopback-delivery/ingress"},
		{"ip6_input", 0, "loopback-delivery/ingress"},
		{"skb_clone packet_snd", 0, "packet-ring-clone/clone"},
		{"pskb_expand_head", 0, "packet-ring-clone/clone"},
		{"somebody else", 0, "/clone"}, // copied, and nobody knows why
		{"", seenLocal, "/clone"},
	} {
		f := fact{kind: factPrivate, evidence: c.evidence, callers: strings.Fields(c.callers)}
		if id, mechanism := f.private(); id+"/"+string(mechanism) != c.want {
			t.Errorf("%q with %#x: %s/%s, want %s", c.callers, c.evidence, id, mechanism, c.want)
		}
	}
}

// TestFlattenedByCaller does so for packets that were made linear.
func TestFlattenedByCaller(t *testing.T) {
	for _, c := range []struct {
		callers  string
		kind     factKind
		evidence evidence
		want     string
	}{
		{"validate_xmit_skb", factSegment, seenNoSG, "no-scatter-gather/segment"},
		{"validate_xmit_skb", factLinearize, seenNoSG | seenNoChecksum, "no-scatter-gather/linearize"},
		{"skb_checksum_help validate_xmit_skb", factLinearize, seenNoChecksum, "no-tx-csum/linearize"},
		{"validate_xmit_skb", factLinearize, seenEncap, "encap-features/linearize"},
		{"validate_xmit_skb", factLinearize, 0, "/linearize"},
		{"__dev_direct_xmit", factLinearize, 0, "driver-linearize/driver"},
		{"wg_packet_encrypt_worker", factLinearize, 0, "wireguard/crypto"},
		{"esp6_output_head", factLinearize, 0, "ipsec-sw/crypto"},
		{"somebody", factLinearize, seenNoSG, "/linearize"},
	} {
		f := fact{kind: c.kind, evidence: c.evidence, callers: strings.Fields(c.callers)}
		if id, mechanism := f.flattened(); id+"/"+string(mechanism) != c.want {
			t.Errorf("%q with %#x: %s/%s, want %s", c.callers, c.evidence, id, mechanism, c.want)
		}
	}
}

// TestAdvisePredicted adds up what one process sends to one place, and keeps apart what
// differs; a path that could not be judged is a gap and no good news.
func TestAdvisePredicted(t *testing.T) {
	to := func(remote string, pid int, bytes uint64) Flow {
		return Flow{PID: pid, Comm: "app", Remote: remote, Bytes: bytes}
	}
	f := &diagnosisFacts{
		flows: []Flow{to("192.0.2.1:80", 7, 100), to("192.0.2.1:80", 7, 20), to("192.0.2.1:80", 8, 3), to("192.0.2.2:80", 7, 1000), to("192.0.2.3:80", 7, 1)},
		predicted: map[string]*probe.PathReport{
			"192.0.2.1:80": {Blockers: []probe.PathBlocker{{ID: "no-scatter-gather", Device: "eth0", Detail: "eth0 has no scatter-gather.", Remedy: "ethtool -K eth0 sg on"}}},
			"192.0.2.2:80": {Error: "no route"},
			"192.0.2.3:80": {},
		},
	}
	advice, gaps := advisePredicted(f)
	if len(gaps) != 1 || gaps[0] != "the path to 192.0.2.2:80: no route" {
		t.Errorf("gaps %q", gaps)
	}
	if len(advice) != 2 || advice[0].PID != 7 || advice[0].Bytes != 120 || advice[1].PID != 8 || advice[1].Bytes != 3 {
		t.Fatalf("%+v", advice)
	}
	want := "Predicted, not observed, for what app (pid 7) sends to 192.0.2.1:80 without copying it itself: eth0 has no scatter-gather."
	if a := advice[0]; a.Text != want || a.ID != "no-scatter-gather" || a.Device != "eth0" || a.Remedy != "ethtool -K eth0 sg on" || len(a.Evidence) != 1 {
		t.Errorf("%+v", a)
	}
}

// TestTierAnswers tells what trying a tier said: what cannot be told is unknown.
func TestTierAnswers(t *testing.T) {
	c := capability{id: "kprobe", what: "kernel functions"}
	for _, x := range []struct {
		err    error
		status probe.FeatureStatus
		words  string
	}{
		{nil, probe.Supported, "was attached to kernel functions"},
		{sys.Wrap("bpf", syscall.EPERM), probe.Denied, ""},
		{sys.Wrap("perf_event_open", syscall.EACCES), probe.Denied, ""},
		{fmt.Errorf("%w: %w", errNoTracefs, fs.ErrNotExist), probe.Disabled, "mount -t tracefs"},
		{fmt.Errorf("type: %w", btf.ErrNotFound), probe.Unsupported, "lacks"},
		{sys.Wrap("open", syscall.ENOENT), probe.Unsupported, "lacks"},
		{sys.Wrap("bpf", syscall.ENOSYS), probe.Unsupported, "does not attach"},
		{sys.Wrap("bpf", syscall.ENOMEM), probe.UnknownFeature, "could not be told"},
		{sys.Wrap("bpf", syscall.EINTR), probe.UnknownFeature, "could not be told"},
		{sys.Wrap("bpf", syscall.EMFILE), probe.UnknownFeature, "could not be told"},
		{errors.New("strange\nand long"), probe.UnknownFeature, "strange."},
	} {
		if got := c.answer(x.err); got.ID != "kprobe" || got.Status != x.status || !strings.Contains(got.Detail, x.words) || strings.Contains(got.Detail, "\n") {
			t.Errorf("%v: %+v, want %s with %q", x.err, got, x.status, x.words)
		}
	}
	// What is no matter of permission stays what it is; what is says what is needed.
	if err := sys.Wrap("bpf", syscall.ENOMEM); explain(err) != err {
		t.Errorf("%v became %v", err, explain(err))
	}
	for _, err := range []error{sys.Wrap("bpf", syscall.EPERM), errNoAddresses} {
		var p *PermissionError
		if got := explain(err); !errors.As(got, &p) || p.Needs == "" || !errors.Is(got, fs.ErrPermission) || !errors.Is(got, err) {
			t.Errorf("%v became %#v", err, got)
		}
	}
}
