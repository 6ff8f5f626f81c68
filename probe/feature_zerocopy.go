package probe

import (
	"cmp"
	"fmt"
	"strings"
)

func zerocopyFeatures() []featureSpec {
	ipv6 := func(id, what string) featureSpec {
		return featureSpec{id: id, what: what, config: "CONFIG_IPV6", module: "ipv6", before: ipv6Off, works: zerocopyWorks}
	}
	return []featureSpec{
		{id: "msg_zerocopy.tcp4", what: "MSG_ZEROCOPY on TCP over IPv4", works: zerocopyWorks},
		{id: "msg_zerocopy.udp4", what: "MSG_ZEROCOPY on UDP over IPv4", works: zerocopyWorks},
		ipv6("msg_zerocopy.tcp6", "MSG_ZEROCOPY on TCP over IPv6"),
		ipv6("msg_zerocopy.udp6", "MSG_ZEROCOPY on UDP over IPv6"),
		{id: "msg_zerocopy.vsock", what: "MSG_ZEROCOPY on vsock", config: "CONFIG_VSOCKETS", module: "vsock", mayLack: true, works: vsockWorks},
		{id: "udp.gso", what: "UDP_SEGMENT"},
	}
}

// ipv6Off judges a machine that was booted without IPv6.
func ipv6Off(j *featureJudge) bool {
	if j.f.Host.ModuleParams["ipv6.disable"] != "1" {
		return false
	}
	j.evidence("/sys/module/ipv6/parameters/disable", "1")
	j.disabled("IPv6 was switched off at boot (ipv6.disable=1).", "remove ipv6.disable=1 from the kernel command line and reboot")
	return true
}

// zerocopyWorks judges sends that were completed. Over loopback the data ends
// in a socket of this machine, for which the kernel copies it and says so.
func zerocopyWorks(j *featureJudge) {
	if _, ok := j.seen("completed"); !ok {
		j.unknown("No completion of a send with MSG_ZEROCOPY was seen; a system-call trace of the test would tell why.")
		return
	}
	if e, _ := j.seen("completion_errno"); e != 0 {
		j.unknown(fmt.Sprintf("The completion of a send with MSG_ZEROCOPY carries error %d; probing again would decide it.", e))
		return
	}
	how := "without a copy"
	if j.is("completion_code", 1) {
		how = "as copied, as always on loopback"
	}
	refused, limited := j.seen("refused_bytes")
	if !limited {
		j.works(fmt.Sprintf("%s works: the kernel completed a test send, %s.", j.name(), how))
		return
	}
	limit, known := j.seen("memlock_bytes")
	sent, _ := j.seen("sent_bytes")
	why := "a limit"
	if known && limit >= 0 {
		why = fmt.Sprintf("the locked-memory limit of %d bytes", limit)
		j.evidence("RLIMIT_MEMLOCK", memlockText(limit))
	}
	j.works(fmt.Sprintf("%s works for small sends: one of %d bytes was completed, but %s refuses one of %d (ENOBUFS).", j.name(), sent, why, refused))
	j.Remedy = memlockRemedy
}

// vsockWorks judges an accepted SO_ZEROCOPY, which alone says nothing about the
// transport below.
func vsockWorks(j *featureJudge) {
	if _, ok := j.seen("completed"); ok {
		zerocopyWorks(j)
		if j.Status == Supported {
			j.Detail = strings.TrimSuffix(j.Detail, ".") + "; other transports than loopback decide for themselves."
		}
		return
	}
	j.evidence("module vsock_loopback", cmp.Or(j.f.Host.Modules["vsock_loopback"], "unknown"))
	j.unknown("The kernel accepts SO_ZEROCOPY on vsock, but whether the transport can do it shows only on a connection; with the module vsock_loopback it could be tried here.")
	if j.f.Host.Modules["vsock_loopback"] == "available" {
		j.Remedy = "modprobe vsock_loopback"
	}
}
