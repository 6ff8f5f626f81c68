package probe

import (
	"fmt"
	"slices"
)

func uringFeatures() []featureSpec {
	send := func(id, what, title string) featureSpec {
		return featureSpec{id: id, what: what, title: title, config: "CONFIG_IO_URING", invalid: true, before: uringPolicy, works: uringSendWorks}
	}
	return []featureSpec{
		{id: "io_uring", what: "io_uring", config: "CONFIG_IO_URING", before: uringPolicy},
		send("io_uring.send_zc", "the io_uring opcode SEND_ZC", "The io_uring opcode SEND_ZC"),
		send("io_uring.sendmsg_zc", "the io_uring opcode SENDMSG_ZC", "The io_uring opcode SENDMSG_ZC"),
		send("io_uring.fixed_buffers", "SEND_ZC from buffers registered with io_uring", ""),
	}
}

// uringPolicy judges a ring that the administrator does not let anyone, or this
// process, have: kernel.io_uring_disabled, Linux 6.6. It explains a refusal; a
// ring that was made needs no explanation.
func uringPolicy(j *featureJudge) bool {
	s, failed := j.lastFailure()
	if !failed || s.Op != "io_uring_setup" || s.Errno != "EPERM" {
		return false
	}
	policy, known := j.sysctl("kernel.io_uring_disabled")
	switch {
	case known && policy == 2:
		j.noteSysctl("kernel.io_uring_disabled")
		j.disabled("io_uring is switched off for every process (kernel.io_uring_disabled is 2).", "sysctl -w kernel.io_uring_disabled=0")
		return true
	case known && policy == 1 && !j.f.Host.has(capSysAdmin) && !j.inUringGroup():
		j.noteSysctl("kernel.io_uring_disabled")
		j.noteSysctl("kernel.io_uring_group")
		j.decide(Denied, "io_uring is kept for CAP_SYS_ADMIN and the members of kernel.io_uring_group (kernel.io_uring_disabled is 1), and this process is neither.")
		j.Remedy = "sysctl -w kernel.io_uring_group=GID, with a group of the service"
		return true
	}
	return false
}

// inUringGroup reports whether the process is in the group that may use io_uring.
func (j *featureJudge) inUringGroup() bool {
	g, ok := j.sysctl("kernel.io_uring_group")
	return ok && g >= 0 && slices.Contains(j.f.Host.Groups, int(g))
}

// uringSendWorks judges a zero-copy send by its two answers.
func uringSendWorks(j *featureJudge) {
	if !j.is("notified", 1) {
		j.unknown("The kernel took a send with " + j.spec.what + " but did not say when the buffer was free again; a system-call trace of the test would tell why.")
		return
	}
	how := "this kernel does not tell whether it copied"
	if j.is("report_usage", 1) {
		how = "without a copy"
		if j.is("copied", 1) {
			how = "as copied, as always on loopback"
		}
	}
	j.works(fmt.Sprintf("%s works: the kernel completed a test send, %s.", j.name(), how))
}
