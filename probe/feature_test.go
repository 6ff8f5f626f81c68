package probe

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// featureCase is one outcome on one host and what it means.
type featureCase struct {
	name    string
	id      string
	steps   []Step
	seen    map[string]int64
	not     string // NotTried
	host    HostFacts
	links   []Link
	status  FeatureStatus
	detail  string // contained in Detail
	remedy  string // contained in Remedy; "" is none
	witness string // contained in the evidence
}

func (c featureCase) run(t *testing.T) {
	t.Helper()
	if c.host.Seccomp == "" {
		c.host.Seccomp = "none"
	}
	f := &Facts{Host: c.host, Outcomes: []Outcome{{ID: c.id, Steps: c.steps, Seen: c.seen, NotTried: c.not}}}
	if c.links != nil {
		f.Networks = []Network{{Links: c.links}}
	}
	for _, x := range judgeKernel(f) {
		if x.ID != c.id {
			if x.Status != UnknownFeature {
				t.Errorf("%s without an outcome is %s", x.ID, x.Status)
			}
			continue
		}
		if x.Status != c.status || !strings.Contains(x.Detail, c.detail) {
			t.Errorf("%s: %s %q, want %s with %q", c.id, x.Status, x.Detail, c.status, c.detail)
		}
		if !strings.Contains(x.Remedy, c.remedy) || (c.remedy == "") != (x.Remedy == "") {
			t.Errorf("%s: remedy %q, want %q", c.id, x.Remedy, c.remedy)
		}
		if got := fmt.Sprint(x.Evidence); !strings.Contains(got, c.witness) {
			t.Errorf("%s: evidence %s lacks %q", c.id, got, c.witness)
		}
	}
}

// once is a test whose only recorded call failed.
func once(op, errno string) []Step { return []Step{{Op: op, Errno: errno}} }

func prepared(op, errno string) []Step { return []Step{{Op: op, Errno: errno, Prep: true}} }

// worked is a test whose calls all succeeded.
func worked(ops ...string) []Step {
	var out []Step
	for _, op := range ops {
		out = append(out, Step{Op: op})
	}
	return out
}

func TestJudgeErrnos(t *testing.T) {
	built := map[string]string{"CONFIG_IO_URING": "y", "CONFIG_XDP_SOCKETS": "y", "CONFIG_PACKET": "y"}
	without := map[string]string{"CONFIG_IO_URING": "n"}
	for _, c := range []featureCase{
		{name: "no such call", id: "splice.file-tcp", steps: once("splice file to pipe", "ENOSYS"), status: Unsupported, detail: "ENOSYS"},
		{name: "no such call, filter", id: "splice.file-tcp", steps: once("splice file to pipe", "ENOSYS"),
			host: HostFacts{Seccomp: "filter"}, status: UnknownFeature, detail: "filter", witness: "{seccomp filter}"},
		{name: "no such call, filter not known", id: "tee", steps: once("tee", "ENOSYS"), host: HostFacts{Seccomp: "unknown"}, status: UnknownFeature},
		{name: "not permitted", id: "vmsplice", steps: once("vmsplice memory to pipe", "EPERM"), status: Denied, detail: "may not use"},
		{name: "not permitted, filter", id: "vmsplice", steps: once("vmsplice memory to pipe", "EPERM"),
			host: HostFacts{Seccomp: "filter"}, status: UnknownFeature, detail: "outside the filter"},
		{name: "access refused", id: "vmsplice", steps: once("vmsplice memory to pipe", "EACCES"), status: Denied},
		{name: "built, filter says ENOSYS", id: "io_uring", steps: once("io_uring_setup", "ENOSYS"),
			host: HostFacts{Seccomp: "filter", Config: built, ConfigSource: "/proc/config.gz"}, status: Denied, detail: "filter",
			remedy: "io_uring_setup", witness: "/proc/config.gz CONFIG_IO_URING y"},
		{name: "built, filter says EPERM", id: "io_uring", steps: once("io_uring_setup", "EPERM"),
			host: HostFacts{Seccomp: "filter", Config: built}, status: Denied},
		{name: "not built, filter says EPERM", id: "io_uring", steps: once("io_uring_setup", "EPERM"),
			host: HostFacts{Seccomp: "filter", Config: without}, status: Unsupported, detail: "CONFIG_IO_URING is not set"},
		{name: "not built", id: "io_uring.send_zc", steps: once("io_uring_setup", "ENOSYS"), host: HostFacts{Config: without}, status: Unsupported},
		{name: "524", id: "msg_zerocopy.tcp4", steps: once("setsockopt SO_ZEROCOPY", "ENOTSUPP"), status: Unsupported, detail: "ENOTSUPP", witness: "{setsockopt SO_ZEROCOPY ENOTSUPP}"},
		{name: "95", id: "msg_zerocopy.udp6", steps: once("setsockopt SO_ZEROCOPY", "EOPNOTSUPP"), status: Unsupported},
		{name: "old kernel", id: "udp.gso", steps: once("setsockopt UDP_SEGMENT", "ENOPROTOOPT"), status: Unsupported, detail: "ENOPROTOOPT"},
		{name: "no option on a filtered process", id: "udp.gso", steps: once("setsockopt UDP_SEGMENT", "ENOPROTOOPT"), host: HostFacts{Seccomp: "filter"}, status: Unsupported},
		{name: "no family", id: "af_xdp", steps: once("socket AF_XDP", "EAFNOSUPPORT"), status: Unsupported},
		{name: "family refused by a filter", id: "af_xdp", steps: once("socket AF_XDP", "EAFNOSUPPORT"),
			host: HostFacts{Seccomp: "filter", Protocols: []string{"XDP"}}, status: Denied, remedy: "RestrictAddressFamilies"},
		{name: "family perhaps refused by a filter", id: "sendfile.tcp", steps: prepared("socket AF_INET", "EAFNOSUPPORT"),
			host: HostFacts{Seccomp: "filter"}, status: UnknownFeature},
		{name: "no capability", id: "packet_tx_ring", steps: once("socket AF_PACKET", "EPERM"), status: Denied, remedy: "CAP_NET_RAW"},
		{name: "no capability, filter too", id: "packet_tx_ring", steps: once("socket AF_PACKET", "EPERM"),
			host: HostFacts{Seccomp: "filter"}, status: Denied, remedy: "CAP_NET_RAW"},
		{name: "capability, filter", id: "packet_tx_ring", steps: once("socket AF_PACKET", "EPERM"),
			host: HostFacts{Seccomp: "filter", CapEff: 1 << capNetRaw}, status: UnknownFeature},
		{name: "EINVAL where it is the answer", id: "sendfile.pipe", steps: once("sendfile file to pipe", "EINVAL"), status: Unsupported},
		{name: "EINVAL where it proves nothing", id: "sendfile.tcp", steps: once("sendfile file to TCP", "EINVAL"), status: UnknownFeature, detail: "EINVAL"},
		{name: "EINVAL in preparation", id: "sendfile.pipe", steps: prepared("pwrite", "EINVAL"), status: UnknownFeature, detail: "could not be prepared"},
		{name: "EOPNOTSUPP in preparation", id: "sendfile.tcp", steps: prepared("memfd_create", "EOPNOTSUPP"), status: UnknownFeature},
		{name: "no descriptors", id: "tee", steps: prepared("pipe2", "EMFILE"), status: UnknownFeature, detail: "file descriptors"},
		{name: "I/O error", id: "tee", steps: once("tee", "EIO"), status: UnknownFeature, detail: "EIO"},
		{name: "loopback down", id: "sendfile.udp", steps: prepared("bind 127.0.0.1", "EADDRNOTAVAIL"), status: UnknownFeature, detail: "loopback is down", remedy: "ip link set lo up"},
		{name: "no route to loopback", id: "io_uring.send_zc", steps: prepared("connect 127.0.0.1", "ENETUNREACH"), status: UnknownFeature, remedy: "ip link set lo up"},
		{name: "no answer", id: "sendfile.tcp", steps: prepared("connect 127.0.0.1", "timeout"), status: UnknownFeature, detail: "packet filter"},
		{name: "loopback known to be down", id: "sendfile.udp", not: "loopback is down", seen: map[string]int64{"loopback_up": 0}, status: UnknownFeature, detail: "loopback is down", remedy: "ip link set lo up"},
		{name: "silent loopback", id: "sendfile.tcp", not: "a TCP connection over loopback was not answered", status: UnknownFeature, detail: "not answered"},
		{name: "stopped", id: "tee", not: "probing was stopped before this test", status: UnknownFeature},
		{name: "nothing recorded", id: "tee", status: UnknownFeature},
		{name: "a word from nowhere", id: "tee", steps: once("tee", "errno 3999"), status: UnknownFeature},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeContent(t *testing.T) {
	sent := worked("sendfile file to TCP", "recv")
	for _, c := range []featureCase{
		{name: "page reference", id: "sendfile.tcp", steps: sent, seen: map[string]int64{"equal": 1, "page_ref": 1}, status: Supported, detail: "page references", witness: "page references"},
		{name: "copied", id: "sendfile.pipe", steps: sent, seen: map[string]int64{"equal": 1, "page_ref": 0}, status: Supported, detail: "copies the payload", witness: "not seen by the receiver: copied"},
		{name: "summed at send", id: "sendfile.udp", steps: sent, seen: map[string]int64{"equal": 1, "page_ref": 1, "summed_at_send": 1}, status: Supported, detail: "checksum", witness: "dropped by the receiver"},
		{name: "reference not shown", id: "vmsplice", steps: sent, seen: map[string]int64{"equal": 1}, status: Supported, detail: "did not show"},
		{name: "other bytes", id: "sendfile.tcp", steps: sent, seen: map[string]int64{"equal": 0}, status: Unsupported, detail: "other bytes"},
		{name: "nothing compared", id: "sendfile.tcp", steps: sent, status: UnknownFeature},
		{name: "nothing arrived", id: "sendfile.tcp", steps: append(worked("sendfile file to TCP"), Step{Op: "recv", Errno: "timeout"}), status: UnknownFeature},
		{name: "second part not prepared", id: "sendfile.udp", steps: append(worked("sendfile file to UDP", "recv"), Step{Op: "recv", Errno: "timeout", Prep: true}),
			seen: map[string]int64{"equal": 1}, status: Supported},
		{name: "cork holds", id: "tcp.cork", steps: sent, seen: map[string]int64{"equal": 1, "held": 1}, status: Supported},
		{name: "cork leaks", id: "tcp.cork", steps: sent, seen: map[string]int64{"equal": 1, "held": 0}, status: Unsupported},
		{name: "mapped", id: "tcp_zerocopy_receive", steps: sent, seen: map[string]int64{"mapped_bytes": 8192, "equal": 1}, status: Supported, detail: "8192"},
		{name: "mapped wrong", id: "tcp_zerocopy_receive", steps: sent, seen: map[string]int64{"mapped_bytes": 8192, "equal": 0}, status: Unsupported},
		{name: "nothing to map", id: "tcp_zerocopy_receive", steps: sent, seen: map[string]int64{"mapped_bytes": 0}, status: Supported, detail: "nothing was mapped"},
		{name: "AF_XDP", id: "af_xdp", steps: sent, status: Supported, detail: "driver"},
		{name: "no operation", id: "devmem.tx", steps: once("NETDEV_CMD_BIND_TX", "EOPNOTSUPP"), seen: map[string]int64{"operation": 0}, status: Unsupported, detail: "no operation"},
		{name: "no device", id: "devmem.tx", steps: once("NETDEV_CMD_BIND_TX on every device", "EOPNOTSUPP"), seen: map[string]int64{"operation": 1, "able": 0}, status: Unsupported, detail: "no network device"},
		{name: "a device", id: "devmem.tx", steps: worked("NETDEV_CMD_BIND_TX eth0"), seen: map[string]int64{"operation": 1, "able": 1}, status: Supported},
		{name: "device odd", id: "devmem.tx", steps: once("NETDEV_CMD_BIND_TX eth0", "EINVAL"), seen: map[string]int64{"operation": 1, "able": 0}, status: UnknownFeature},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeZerocopy(t *testing.T) {
	done := worked("setsockopt SO_ZEROCOPY", "send MSG_ZEROCOPY 65536 bytes", "recvmsg MSG_ERRQUEUE")
	small := []Step{{Op: "setsockopt SO_ZEROCOPY"}, {Op: "send MSG_ZEROCOPY 65536 bytes", Errno: "ENOBUFS"}, {Op: "send MSG_ZEROCOPY 4096 bytes"}, {Op: "recvmsg MSG_ERRQUEUE"}}
	none := []Step{{Op: "setsockopt SO_ZEROCOPY"}, {Op: "send MSG_ZEROCOPY 65536 bytes", Errno: "ENOBUFS"}, {Op: "send MSG_ZEROCOPY 4096 bytes", Errno: "ENOBUFS"}}
	completed := func(add map[string]int64) map[string]int64 {
		m := map[string]int64{"completed": 1, "completion_code": 1, "completion_errno": 0, "equal": 1, "sent_bytes": 65536}
		maps.Copy(m, add)
		return m
	}
	yes := true
	root := HostFacts{CapEff: 1<<41 - 1, InitUserNS: &yes}
	for _, c := range []featureCase{
		{name: "copied on loopback", id: "msg_zerocopy.tcp4", steps: done, seen: completed(nil), status: Supported, detail: "as copied, as always on loopback"},
		{name: "not copied", id: "msg_zerocopy.vsock", steps: done, seen: completed(map[string]int64{"completion_code": 0}), status: Supported, detail: "without a copy"},
		{name: "other bytes", id: "msg_zerocopy.tcp4", steps: done, seen: completed(map[string]int64{"equal": 0}), status: Unsupported},
		{name: "completion with an error", id: "msg_zerocopy.tcp4", steps: done, seen: completed(map[string]int64{"completion_errno": 12}), status: UnknownFeature},
		{name: "no completion", id: "msg_zerocopy.tcp4", steps: append(done[:2:2], Step{Op: "recvmsg MSG_ERRQUEUE", Errno: "timeout"}), seen: map[string]int64{"equal": 1}, status: UnknownFeature, detail: "in time"},
		{name: "small only", id: "msg_zerocopy.tcp4", steps: small, seen: completed(map[string]int64{"refused_bytes": 65536, "memlock_bytes": 65536, "sent_bytes": 4096}),
			status: Supported, detail: "limit of 65536 bytes refuses one of 65536", remedy: "LimitMEMLOCK"},
		{name: "memlock 0", id: "msg_zerocopy.tcp4", steps: none, seen: map[string]int64{"refused_bytes": 65536, "memlock_bytes": 0},
			status: Disabled, detail: "limit of 0 bytes", remedy: "LimitMEMLOCK", witness: "{RLIMIT_MEMLOCK 0 bytes}"},
		{name: "memlock used up", id: "msg_zerocopy.udp4", steps: none, seen: map[string]int64{"memlock_bytes": 65536}, status: Disabled, detail: "used up", remedy: "LimitMEMLOCK"},
		{name: "exempt, and yet", id: "msg_zerocopy.tcp4", steps: none, seen: map[string]int64{"memlock_bytes": 0}, host: root, status: UnknownFeature, detail: "no limit"},
		{name: "unlimited, and yet", id: "msg_zerocopy.tcp4", steps: none, seen: map[string]int64{"memlock_bytes": -1}, status: UnknownFeature},
		{name: "root of a user namespace", id: "msg_zerocopy.tcp4", steps: none, seen: map[string]int64{"memlock_bytes": 0},
			host: HostFacts{CapEff: 1<<41 - 1, InitUserNS: new(false)}, status: Disabled, remedy: "LimitMEMLOCK"},
		{name: "no option memory", id: "msg_zerocopy.tcp4", steps: none, seen: map[string]int64{"memlock_bytes": -1},
			host: HostFacts{Sysctls: map[string]string{"net.core.optmem_max": "0"}}, status: Disabled, remedy: "net.core.optmem_max"},
		{name: "vsock accepted", id: "msg_zerocopy.vsock", steps: worked("socket AF_VSOCK", "setsockopt SO_ZEROCOPY"), seen: map[string]int64{"accepted": 1}, status: UnknownFeature, detail: "transport"},
		{name: "vsock accepted, loopback to be had", id: "msg_zerocopy.vsock", steps: worked("socket AF_VSOCK", "setsockopt SO_ZEROCOPY"), seen: map[string]int64{"accepted": 1},
			host: HostFacts{Modules: map[string]string{"vsock_loopback": "available"}}, status: UnknownFeature, remedy: "modprobe vsock_loopback"},
		{name: "vsock of 6.1", id: "msg_zerocopy.vsock", steps: once("setsockopt SO_ZEROCOPY", "EOPNOTSUPP"), status: Unsupported},
		{name: "IPv6 off at boot", id: "msg_zerocopy.tcp6", not: "AF_INET6 is not in /proc/net/protocols", host: HostFacts{ModuleParams: map[string]string{"ipv6.disable": "1"}}, status: Disabled, remedy: "ipv6.disable=1"},
		{name: "IPv6 off on lo", id: "msg_zerocopy.udp6", steps: prepared("bind ::1", "EADDRNOTAVAIL"),
			host: HostFacts{Sysctls: map[string]string{"net.ipv6.conf.lo.disable_ipv6": "1"}}, status: Disabled, remedy: "net.ipv6.conf.lo.disable_ipv6=0"},
		{name: "IPv6 without its address", id: "msg_zerocopy.udp6", steps: prepared("bind ::1", "EADDRNOTAVAIL"), status: UnknownFeature, remedy: "ip link set lo up"},
		{name: "IPv6 not built", id: "msg_zerocopy.tcp6", not: "AF_INET6 is not in /proc/net/protocols", host: HostFacts{Config: map[string]string{"CONFIG_IPV6": "n"}}, status: Unsupported},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeUring(t *testing.T) {
	sysctl := func(policy, group string) HostFacts {
		return HostFacts{Sysctls: map[string]string{"kernel.io_uring_disabled": policy, "kernel.io_uring_group": group}, Groups: []int{4, 27}}
	}
	with := func(h HostFacts, edit func(*HostFacts)) HostFacts { edit(&h); return h }
	refused := once("io_uring_setup", "EPERM")
	answered := worked("io_uring_setup", "IORING_OP_SEND_ZC", "IORING_CQE_F_NOTIF")
	for _, c := range []featureCase{
		{name: "off", id: "io_uring", steps: refused, host: sysctl("2", "-1"), status: Disabled, remedy: "sysctl -w kernel.io_uring_disabled=0", witness: "{sysctl kernel.io_uring_disabled 2}"},
		{name: "off, filter too", id: "io_uring.send_zc", steps: refused, host: with(sysctl("2", "-1"), func(h *HostFacts) { h.Seccomp = "filter" }), status: Disabled, remedy: "sysctl"},
		{name: "kept for a group", id: "io_uring", steps: refused, host: sysctl("1", "99"), status: Denied, remedy: "io_uring_group"},
		{name: "kept for nobody's group", id: "io_uring", steps: refused, host: sysctl("1", "-1"), status: Denied, remedy: "io_uring_group"},
		{name: "in the group, and yet", id: "io_uring", steps: refused, host: sysctl("1", "27"), status: Denied, detail: "may not use"},
		{name: "in the group, filter", id: "io_uring", steps: refused, host: with(sysctl("1", "27"), func(h *HostFacts) { h.Seccomp = "filter" }), status: UnknownFeature},
		{name: "on, filter", id: "io_uring", steps: refused, host: with(sysctl("0", "-1"), func(h *HostFacts) { h.Seccomp = "filter" }), status: UnknownFeature},
		{name: "works in spite of the setting", id: "io_uring", steps: worked("io_uring_setup"), seen: map[string]int64{"equal": 1}, host: sysctl("2", "-1"), status: Supported},
		{name: "memlock 0", id: "io_uring", steps: once("io_uring_setup", "ENOMEM"), seen: map[string]int64{"memlock_bytes": 0}, status: Disabled, remedy: "LimitMEMLOCK"},
		{name: "memlock 0, send", id: "io_uring.fixed_buffers", steps: once("io_uring_register BUFFERS", "ENOMEM"), seen: map[string]int64{"memlock_bytes": 8192}, status: Disabled, remedy: "LimitMEMLOCK"},
		{name: "no opcode", id: "io_uring.send_zc", steps: once("IORING_OP_SEND_ZC", "EINVAL"), seen: map[string]int64{"opcode": 0}, status: Unsupported},
		{name: "copied on loopback", id: "io_uring.send_zc", steps: answered, seen: map[string]int64{"notified": 1, "report_usage": 1, "copied": 1, "equal": 1}, status: Supported, detail: "as always on loopback"},
		{name: "does not tell", id: "io_uring.send_zc", steps: answered, seen: map[string]int64{"notified": 1, "report_usage": 0, "equal": 1}, status: Supported, detail: "does not tell"},
		{name: "no notification", id: "io_uring.sendmsg_zc", steps: answered, seen: map[string]int64{"notified": 0, "equal": 1}, status: UnknownFeature},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeNotTried(t *testing.T) {
	const ulp, family = "net.ipv4.tcp_available_ulp does not list tls", "the family is not in /proc/net/protocols"
	unlisted := map[string]int64{"listed": 0}
	module := func(name, state string) HostFacts { return HostFacts{Modules: map[string]string{name: state}} }
	for _, c := range []featureCase{
		{name: "TLS to load", id: "ktls.tx", not: ulp, seen: unlisted, host: module("tls", "available"), status: Disabled, remedy: "modprobe tls", witness: "{module tls available}"},
		{name: "TLS to load, forbidden", id: "ktls.tx", not: ulp, seen: unlisted, status: Disabled, remedy: "modules-load.d",
			host: HostFacts{Modules: map[string]string{"tls": "available"}, Sysctls: map[string]string{"kernel.modules_disabled": "1"}}},
		{name: "TLS to load, option unsure", id: "ktls.tx_zerocopy_ro", not: ulp, seen: unlisted, host: module("tls", "available"), status: UnknownFeature, remedy: "modprobe tls"},
		{name: "TLS absent", id: "ktls.tx", not: ulp, seen: unlisted, host: module("tls", "absent"), status: Unsupported, detail: "module tree"},
		{name: "TLS not built", id: "ktls.tx", not: ulp, seen: unlisted, host: HostFacts{Config: map[string]string{"CONFIG_TLS": "n"}}, status: Unsupported, detail: "CONFIG_TLS is not set"},
		{name: "TLS built, where is it", id: "ktls.tx", not: ulp, seen: unlisted, host: HostFacts{Config: map[string]string{"CONFIG_TLS": "m"}, Modules: map[string]string{"tls": "unknown"}}, status: UnknownFeature},
		{name: "TLS, nothing known", id: "ktls.tx", not: ulp, seen: unlisted, status: UnknownFeature, detail: "module tree"},
		{name: "TLS loaded, not listed", id: "ktls.tx", not: ulp, seen: unlisted, host: module("tls", "loaded"), status: UnknownFeature},
		{name: "TLS list unreadable", id: "ktls.tx", not: "net.ipv4.tcp_available_ulp could not be read", status: UnknownFeature},
		{name: "TLS list unreadable, module there", id: "ktls.tx", not: "could not be read", host: module("tls", "available"), status: UnknownFeature},
		{name: "TLS list unreadable, not built", id: "ktls.tx", not: "could not be read", host: HostFacts{Config: map[string]string{"CONFIG_TLS": "n"}}, status: Unsupported},
		{name: "vsock to load", id: "msg_zerocopy.vsock", not: family, seen: unlisted, host: module("vsock", "available"), status: UnknownFeature, remedy: "modprobe vsock"},
		{name: "vsock absent", id: "msg_zerocopy.vsock", not: family, seen: unlisted, host: module("vsock", "absent"), status: Unsupported},
		{name: "packet to load", id: "packet_tx_ring", not: family, seen: unlisted, host: module("af_packet", "available"), status: Disabled, remedy: "modprobe af_packet"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeTLS(t *testing.T) {
	attached := worked("setsockopt TCP_ULP tls", "setsockopt TLS_TX_ZEROCOPY_RO")
	link := func(s FeatureState) []Link {
		return []Link{{Name: "lo", Features: map[string]FeatureState{}}, {Name: "eth7", Features: map[string]FeatureState{tlsOffload: s}}}
	}
	for _, c := range []featureCase{
		{name: "encrypts", id: "ktls.tx", steps: attached, seen: map[string]int64{"attached": 1, "equal": 1}, status: Supported, detail: "decrypted"},
		{name: "garbles", id: "ktls.tx", steps: attached, seen: map[string]int64{"attached": 1, "equal": 0}, status: Unsupported},
		{name: "cipher not loaded", id: "ktls.tx", steps: attached, seen: map[string]int64{"attached": 1}, status: Supported, detail: "cipher"},
		{name: "offload on", id: "ktls.tx_zerocopy_ro", steps: attached, links: link(FeatureState{Available: true, Active: true}), status: Supported, detail: "eth7"},
		{name: "offload off", id: "ktls.tx_zerocopy_ro", steps: attached, links: link(FeatureState{Available: true}), status: Disabled, remedy: "ethtool -K eth7 tls-hw-tx-offload on"},
		{name: "no offload", id: "ktls.tx_zerocopy_ro", steps: attached, links: link(FeatureState{}), status: Unsupported},
		{name: "devices not known", id: "ktls.tx_zerocopy_ro", steps: attached, status: UnknownFeature},
		{name: "one device not known", id: "ktls.tx_zerocopy_ro", steps: attached, links: []Link{{Name: "eth0", FeaturesError: "EPERM"}}, status: UnknownFeature},
		{name: "old kernel", id: "ktls.tx_zerocopy_ro", steps: append(worked("setsockopt TCP_ULP tls"), Step{Op: "setsockopt TLS_TX_ZEROCOPY_RO", Errno: "ENOPROTOOPT"}), status: Unsupported},
	} {
		t.Run(c.name, c.run)
	}
}

func TestJudgeLimitsOfFeatures(t *testing.T) {
	refused := []Step{{Op: "fcntl F_GETPIPE_SZ"}, {Op: "fcntl F_SETPIPE_SZ", Errno: "EPERM"}, {Op: "fcntl F_SETPIPE_SZ", Errno: "EPERM"}}
	half := []Step{{Op: "fcntl F_SETPIPE_SZ", Errno: "EPERM"}, {Op: "fcntl F_SETPIPE_SZ"}}
	pipe := func(most string) HostFacts { return HostFacts{Sysctls: map[string]string{"fs.pipe-max-size": most}} }
	for _, c := range []featureCase{
		{name: "1 MiB", id: "pipe.resize", steps: worked("fcntl F_SETPIPE_SZ"), seen: map[string]int64{"default_bytes": 65536, "bytes": 1 << 20}, status: Supported, detail: "1048576"},
		{name: "128 KiB", id: "pipe.resize", steps: half, seen: map[string]int64{"default_bytes": 65536, "bytes": 131072}, host: pipe("131072"), status: Supported, remedy: "fs.pipe-max-size"},
		{name: "not at all", id: "pipe.resize", steps: refused, seen: map[string]int64{"default_bytes": 65536, "bytes": 65536}, host: pipe("65536"), status: Disabled, remedy: "fs.pipe-max-size"},
		{name: "over the quota", id: "pipe.resize", steps: refused, seen: map[string]int64{"default_bytes": 8192, "bytes": 8192}, host: pipe("1048576"), status: Disabled, remedy: "pipe-user-pages-soft"},
		{name: "filter", id: "pipe.resize", steps: refused, seen: map[string]int64{"default_bytes": 65536}, host: HostFacts{Seccomp: "filter"}, status: UnknownFeature},
		{name: "keeps its size", id: "pipe.resize", steps: worked("fcntl F_SETPIPE_SZ"), seen: map[string]int64{"default_bytes": 65536, "bytes": 65536}, status: Unsupported},
		{name: "secret off", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{ModuleParams: map[string]string{"secretmem.enable": "N"}}, status: Disabled, remedy: "secretmem.enable=1"},
		{name: "secret off, hidden", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{ModuleParams: map[string]string{"secretmem.enable": ""}}, status: Disabled, remedy: "secretmem.enable=1"},
		{name: "secret built, so off", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{Config: map[string]string{"CONFIG_SECRETMEM": "y"}}, status: Disabled, remedy: "secretmem.enable=1"},
		{name: "secret hidden, filter", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{Seccomp: "filter", ModuleParams: map[string]string{"secretmem.enable": ""}}, status: UnknownFeature},
		{name: "secret off, filter", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{Seccomp: "filter", ModuleParams: map[string]string{"secretmem.enable": "N"}}, status: Disabled, remedy: "secretmem"},
		{name: "secret not built", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), host: HostFacts{Config: map[string]string{"CONFIG_SECRETMEM": "n"}}, status: Unsupported},
		{name: "secret unknown to the kernel", id: "memfd_secret", steps: once("memfd_secret", "ENOSYS"), status: Unsupported},
		{name: "secret over the limit on first use", id: "memfd_secret", steps: append(worked("memfd_secret", "mmap"), Step{Op: "first use of the mapping", Errno: "EFAULT"}), seen: map[string]int64{"memlock_bytes": 0}, status: Disabled, remedy: "LimitMEMLOCK"},
		{name: "secret over the limit", id: "memfd_secret", steps: append(worked("memfd_secret"), Step{Op: "mmap", Errno: "EAGAIN"}), seen: map[string]int64{"memlock_bytes": 0}, status: Disabled, remedy: "LimitMEMLOCK"},
	} {
		t.Run(c.name, c.run)
	}
}

// TestJudgeIsPure gives the judge twice the same facts, and facts with nothing
// in them.
func TestJudgeIsPure(t *testing.T) {
	f := &Facts{Outcomes: []Outcome{{ID: "tee", Steps: worked("tee"), Seen: map[string]int64{"equal": 1}}}}
	if a, b := fmt.Sprint(judgeKernel(f)), fmt.Sprint(judgeKernel(f)); a != b {
		t.Errorf("%s\n%s", a, b)
	}
	for _, x := range judgeKernel(&Facts{}) {
		if x.Status != UnknownFeature || x.Detail == "" || x.Evidence == nil {
			t.Errorf("%+v", x)
		}
	}
}
