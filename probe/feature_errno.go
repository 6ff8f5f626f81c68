package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// failed decides from the call that failed last. Nothing but its errno, and
// where that is ambiguous what is known of the host, counts.
func (j *featureJudge) failed(s Step) {
	j.addHostEvidence(s)
	switch s.Errno {
	case "ENOSYS":
		j.noSuchCall(s)
	case "EPERM", "EACCES":
		j.notPermitted(s)
	case "EADDRNOTAVAIL", "ENETUNREACH", "ENETDOWN", "EHOSTUNREACH":
		j.noLoopback(s)
	case "EOPNOTSUPP", "ENOTSUPP", "ENOPROTOOPT", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT":
		j.notThere(s)
	case "EMFILE", "ENFILE":
		j.unknown("The test of " + j.spec.what + " ran out of file descriptors; raising the limit (ulimit -n) would decide it.")
	case "ENOBUFS", "ENOMEM", "EAGAIN":
		j.refused(s)
	case "EINVAL":
		if j.spec.invalid && !s.Prep {
			j.unsupported("This kernel does not know " + j.spec.what + ": " + s.Op + " fails with EINVAL.")
			return
		}
		j.odd(s)
	case errWaitText:
		j.unknown(fmt.Sprintf("The test of %s got no answer to %q in time; a packet filter on loopback could be why, and trying without it would decide it.", j.spec.what, s.Op))
	default:
		j.odd(s)
	}
}

// errWaitText stands in a step in place of an errno where something did not
// happen in time.
const errWaitText = "timeout"

// odd is for an errno that proves nothing here.
func (j *featureJudge) odd(s Step) {
	verb := "failed"
	if s.Prep {
		verb = "could not be prepared"
	}
	j.unknown(fmt.Sprintf("The test of %s %s: %s answered %s, which does not say whether the kernel can do it; a system-call trace would.", j.spec.what, verb, s.Op, s.Errno))
}

// addHostEvidence adds what the ambiguous errnos were weighed against.
func (j *featureJudge) addHostEvidence(s Step) {
	switch s.Errno {
	case "ENOSYS", "EPERM", "EACCES", "EAFNOSUPPORT":
		j.evidence("seccomp", cmp.Or(j.f.Host.Seccomp, "unknown"))
		if j.config() != "" {
			j.noteConfig()
		}
	}
}

// filterDecides is what to do where a filter may have answered.
const filterDecides = "running this outside the filter would decide it"

// noSuchCall judges ENOSYS: the kernel lacks the call, or a filter says so.
func (j *featureJudge) noSuchCall(s Step) {
	switch {
	case j.config() == "n":
		j.unsupported(fmt.Sprintf("This kernel is built without %s (%s is not set).", j.spec.what, j.spec.config))
	case !j.filtered():
		j.unsupported(fmt.Sprintf("This kernel has no %s: %s fails with ENOSYS.", j.spec.what, s.Op))
	case j.config() == "y" && !s.Prep:
		j.decide(Denied, fmt.Sprintf("The kernel is built with %s, but the system-call filter of this process answers ENOSYS.", j.spec.what))
		j.Remedy = "allow " + callOf(s.Op) + " in the seccomp policy of the service or container"
	default:
		j.unknown(fmt.Sprintf("%s fails with ENOSYS, which a system-call filter of this process may have answered in the kernel's place; %s.", s.Op, filterDecides))
	}
}

// notPermitted judges EPERM and EACCES.
func (j *featureJudge) notPermitted(s Step) {
	switch {
	case j.config() == "n":
		j.unsupported(fmt.Sprintf("This kernel is built without %s (%s is not set).", j.spec.what, j.spec.config))
	case !j.filtered(), j.config() == "y" && !s.Prep, j.lacksCapability():
		j.decide(Denied, fmt.Sprintf("This process may not use %s: %s fails with %s.", j.spec.what, s.Op, s.Errno))
		j.Remedy = j.spec.remedy
	default:
		j.unknown(fmt.Sprintf("%s fails with %s, which a system-call filter of this process may have answered in the kernel's place; %s.", s.Op, s.Errno, filterDecides))
	}
}

// lacksCapability reports whether the kernel refuses this process whatever a
// filter says.
func (j *featureJudge) lacksCapability() bool {
	return j.spec.needs != 0 && j.f.Host.CapEff>>j.spec.needs&1 == 0
}

// notThere judges the errnos that say the kernel does not have it. Only a
// refused family can be a filter's doing: service managers answer EAFNOSUPPORT
// for those they restrict.
func (j *featureJudge) notThere(s Step) {
	switch {
	case s.Errno == "EAFNOSUPPORT" && j.filtered() && j.familyListed(s):
		j.decide(Denied, fmt.Sprintf("The kernel has the family, but the system-call filter of this process refuses its sockets: %s fails with %s.", s.Op, s.Errno))
		j.Remedy = "allow the family in the service (RestrictAddressFamilies=) or in the seccomp policy of the container"
	case s.Errno == "EAFNOSUPPORT" && j.filtered():
		j.unknown(fmt.Sprintf("%s fails with %s, which a system-call filter of this process may have answered in the kernel's place; %s.", s.Op, s.Errno, filterDecides))
	case s.Prep && s.Errno != "EAFNOSUPPORT":
		j.odd(s)
	default:
		j.unsupported(fmt.Sprintf("This kernel cannot do %s: %s fails with %s.", j.spec.what, s.Op, s.Errno))
	}
}

// familyListed reports whether /proc/net/protocols has the family that a step
// names.
func (j *featureJudge) familyListed(s Step) bool {
	for family, protocol := range map[string]string{
		"AF_INET": "TCP", "AF_INET6": "TCPv6", "AF_UNIX": "UNIX",
		"AF_PACKET": "PACKET", "AF_VSOCK": "AF_VSOCK", "AF_XDP": "XDP", "AF_NETLINK": "NETLINK",
	} {
		if strings.HasSuffix(s.Op, " "+family) {
			return slices.Contains(j.f.Host.Protocols, protocol)
		}
	}
	return false
}

const loopbackRemedy = "ip link set lo up"

// noLoopback judges errnos of an address or route that is not there.
func (j *featureJudge) noLoopback(s Step) {
	if strings.Contains(s.Op, "::1") {
		for _, name := range []string{"net.ipv6.conf.lo.disable_ipv6", "net.ipv6.conf.all.disable_ipv6"} {
			if j.f.Host.Sysctls[name] == "1" {
				j.noteSysctl(name)
				j.disabled("IPv6 is switched off on loopback ("+name+" is 1).", "sysctl -w "+name+"=0")
				return
			}
		}
	}
	j.unknown(fmt.Sprintf("%s could not be tried: loopback is down or has no address (%s: %s); bringing it up would decide it.", j.name(), s.Op, s.Errno))
	j.Remedy = loopbackRemedy
}

// Limits that a test can run into. A page-sized send pins two pages more than
// it has; a notification takes SKB_TRUESIZE(0), 832 bytes at most on 64 bits.
const (
	memlockLeast = 3 * 4096
	optmemLeast  = 832
)

const memlockRemedy = "LimitMEMLOCK=64M in the service's unit, or ulimit -l 65536 in its shell"

// refused judges a lack of memory: of locked memory, of the socket's option
// memory, or of any.
func (j *featureJudge) refused(s Step) {
	limit, known := j.seen("memlock_bytes")
	exempt := limit < 0 || j.f.Host.has(capIPCLock)
	if known {
		j.evidence("RLIMIT_MEMLOCK", memlockText(limit))
	}
	optmem, haveOptmem := j.sysctl("net.core.optmem_max")
	switch {
	case s.Errno == "ENOBUFS" && haveOptmem && optmem < optmemLeast:
		j.noteSysctl("net.core.optmem_max")
		j.disabled(fmt.Sprintf("net.core.optmem_max of %d bytes leaves no room for a single completion.", optmem), "sysctl -w net.core.optmem_max=131072")
	case !known || exempt || s.Prep:
		j.unknown(fmt.Sprintf("%s fails with %s although no limit of this process explains it; trying again with more free memory would decide it.", s.Op, s.Errno))
	case limit < memlockLeast:
		j.disabled(fmt.Sprintf("The locked-memory limit of %d bytes (RLIMIT_MEMLOCK) makes every use of %s fail with %s.", limit, j.spec.what, s.Errno), memlockRemedy)
	default:
		j.disabled(fmt.Sprintf("The locked memory this user may hold (RLIMIT_MEMLOCK, %d bytes) is used up: %s fails with %s.", limit, s.Op, s.Errno), memlockRemedy)
	}
}

func memlockText(bytes int64) string {
	if bytes < 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// callOf is the system call of a step's operation: its first word.
func callOf(op string) string {
	call, _, _ := strings.Cut(op, " ")
	if strings.HasPrefix(call, "IORING") {
		return "io_uring_enter"
	}
	return call
}

// notTried decides from the configuration and the modules of the running
// kernel, since the test would have changed something and was not made. Seen
// "listed" 0 says that the kernel was asked and has it not loaded.
func (j *featureJudge) notTried() {
	if j.is("loopback_up", 0) {
		j.evidence("lo", "down")
		j.unknown(fmt.Sprintf("%s could not be tried: loopback is down; bringing it up would decide it.", j.name()))
		j.Remedy = loopbackRemedy
		return
	}
	j.evidence("functional test", "not made: "+j.o.NotTried)
	state := j.f.Host.Modules[j.spec.module]
	if j.spec.module != "" {
		j.evidence("module "+j.spec.module, cmp.Or(state, "unknown"))
	}
	if j.config() != "" {
		j.noteConfig()
	}
	missing := j.is("listed", 0)
	switch {
	case missing && state == "available":
		j.loadable()
	case j.config() == "n":
		j.unsupported(fmt.Sprintf("This kernel is built without %s (%s is not set).", j.spec.what, j.spec.config))
	case state == "absent":
		j.unsupported(fmt.Sprintf("%s is not here: the running kernel's module tree has no module %s.", j.name(), j.spec.module))
	case missing && (state == "builtin" || state == "loaded" || j.config() == "y"):
		j.unknown(fmt.Sprintf("%s was not tried, though the kernel is built with it: %s; the kernel's log would tell why it is not there.", j.name(), j.o.NotTried))
	case missing:
		j.unknown(fmt.Sprintf("%s was not tried: %s; the configuration or the module tree of the running kernel would decide it, and neither could be read.", j.name(), j.o.NotTried))
	default:
		j.unknown(fmt.Sprintf("%s was not tried: %s.", j.name(), j.o.NotTried))
	}
}

// loadable judges a feature whose module is there and not loaded.
func (j *featureJudge) loadable() {
	m := j.spec.module
	if j.f.Host.Sysctls["kernel.modules_disabled"] == "1" {
		j.noteSysctl("kernel.modules_disabled")
		j.disabled(fmt.Sprintf("The module %s is there but not loaded, and kernel.modules_disabled forbids loading it until the next boot.", m),
			"echo "+m+" >/etc/modules-load.d/"+m+".conf, then reboot")
		return
	}
	detail := fmt.Sprintf("The module %s is there but not loaded.", m)
	if j.spec.mayLack {
		// Loading it does not make the feature work by itself: older kernels
		// have the module and lack the feature.
		j.unknown(detail[:len(detail)-1] + "; loading it would let " + j.spec.what + " be tried.")
		j.Remedy = "modprobe " + m
		return
	}
	j.disabled(detail, "modprobe "+m)
}
