package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// memlock makes the check limit.memlock.
func (j *limitJudge) memlock() Check {
	c := Check{ID: "limit.memlock", Subject: j.who(), Evidence: j.memlockEvidence(), Causes: []string{}}
	exempt, known := memlockExempt(&j.f)
	l := j.f.Memlock
	need := j.r.MemlockNeededBytes
	switch {
	case known && exempt:
		c.Status, c.Detail = Pass, "CAP_IPC_LOCK lifts the limit"+j.ordinaryService()
		return c
	case l == nil:
		c.Status, c.Detail = Unknown, "RLIMIT_MEMLOCK could not be read"+j.why("locked memory")
		return c
	case l.Soft == unlimited:
		c.Status, c.Detail = Pass, "no limit on locked memory"
		return c
	}
	status, detail := j.memlockFits(l.Soft)
	c.Status, c.Detail = status, detail
	if status == Pass {
		if pin := deref(j.f.OthersPinBytes); pin > 0 && l.Soft-min(l.Soft, pin) < need {
			c.Status = Warn
			c.Detail += fmt.Sprintf(", but other processes of uid %d have %d bytes pinned, which may count against it", j.f.UID, pin)
		}
		if c.Status == Pass {
			return c
		}
	}
	if !known {
		c.Status = Unknown
		c.Detail = "could not tell whether CAP_IPC_LOCK lifts the limit; if not: " + c.Detail
	}
	c.Causes = []string{"memlock-limit"}
	c.Remedy = j.memlockRemedy(l)
	return c
}

// memlockFits says what a limit is good for.
func (j *limitJudge) memlockFits(limit uint64) (CheckStatus, string) {
	one, pages := j.sendPages(), limit/j.page
	need := j.r.MemlockNeededBytes
	switch {
	case pages < 2:
		return Fail, fmt.Sprintf("%d bytes of locked memory: every zero-copy send fails with ENOBUFS", limit)
	case pages < one:
		return Fail, fmt.Sprintf("%d bytes of locked memory: zero-copy sends over %d bytes always fail with ENOBUFS, one of 64 KiB takes %d",
			limit, (pages-1)*j.page-1, one*j.page)
	case limit < need:
		return Warn, fmt.Sprintf("%d bytes of locked memory hold %d zero-copy sends of 64 KiB of all processes of the user; %s takes %d, and ENOBUFS is the answer to the rest",
			limit, pages/one, j.loadText(), need/(one*j.page))
	}
	return Pass, fmt.Sprintf("%d bytes of locked memory are enough for %s, which takes %d", limit, j.loadText(), need)
}

// ordinaryService says what root's exemption hides.
func (j *limitJudge) ordinaryService() string {
	if j.f.Hypothetical || j.f.PID != 0 || j.f.Memlock == nil {
		return ""
	}
	s := "; this says nothing of a service without it"
	if j.f.Memlock.Hard == unlimited {
		return s + ", which would have no limit if it inherited ours"
	}
	status, detail := j.memlockFits(j.f.Memlock.Hard)
	if status == Pass {
		return s + fmt.Sprintf(", which would have at most %d bytes if it inherited ours: enough", j.f.Memlock.Hard)
	}
	return s + ": if it inherits our hard limit, " + detail
}

func (j *limitJudge) memlockRemedy(l *Rlimit) string {
	// In whole pages, so that the limit holds as many sends as the bytes say.
	need := j.r.MemlockNeededBytes
	if need == unlimited {
		return "LimitMEMLOCK=infinity in the service's unit: systemctl edit UNIT"
	}
	switch {
	case j.f.Hypothetical:
		return fmt.Sprintf("LimitMEMLOCK=%d in the [Service] section of its unit: systemctl edit UNIT", need)
	case j.f.PID != 0:
		return fmt.Sprintf("prlimit --pid %d --memlock=%d:%d, and LimitMEMLOCK=%[2]d in its unit for the next start", j.f.PID, need, max(need, l.Hard))
	case l.Hard >= need:
		return fmt.Sprintf("ulimit -S -l %d", (need+1023)/1024)
	}
	return fmt.Sprintf("LimitMEMLOCK=%d in the service's unit (systemctl edit UNIT), or as root: ulimit -l %d", need, (need+1023)/1024)
}

func (j *limitJudge) memlockEvidence() []Evidence {
	e := []Evidence{}
	if l := j.f.Memlock; l != nil {
		source := "RLIMIT_MEMLOCK"
		if j.f.Hypothetical {
			source += ", assumed"
		}
		e = append(e, Evidence{source, "soft " + limitText(l.Soft) + ", hard " + limitText(l.Hard)})
	}
	if j.f.HasUID {
		e = append(e, Evidence{"uid", strconv.FormatUint(uint64(j.f.UID), 10)})
	}
	e = append(e, Evidence{"CAP_IPC_LOCK", triText(j.f.CapIPCLock)}, Evidence{"initial user namespace", triText(j.f.InitUserNS)})
	if j.f.OthersPinBytes != nil {
		e = append(e, Evidence{"VmPin of other processes of the user", strconv.FormatUint(*j.f.OthersPinBytes, 10)})
	}
	return e
}

func limitText(v uint64) string {
	if v == unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

func triText(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "yes"
	}
	return "no"
}

// why returns what was noted about something that could not be read, or else
// what went wrong first.
func (j *limitJudge) why(what string) string {
	if i := slices.IndexFunc(j.f.Errors, func(e string) bool { return strings.Contains(e, what) }); i >= 0 {
		return because(j.f.Errors[i:])
	}
	return because(j.f.Errors)
}

// who names the process of a check, where it is not our own.
func (j *limitJudge) who() string {
	switch {
	case j.f.Hypothetical:
		return fmt.Sprintf("uid %d", j.f.UID)
	case j.f.PID != 0:
		return fmt.Sprintf("pid %d", j.f.PID)
	}
	return ""
}

// optmem makes the check limit.optmem. Every completion that is not yet read
// takes option memory of its socket; consecutive ones are merged, but only
// when they arrive, and that is not to be relied on.
func (j *limitJudge) optmem() Check {
	c := Check{ID: "limit.optmem", Subject: j.who(), Evidence: []Evidence{}, Causes: []string{}}
	v := j.r.OptmemMaxBytes
	if v == nil {
		c.Status, c.Detail = Unknown, "net.core.optmem_max could not be read"+j.why("optmem_max")
		return c
	}
	c.Evidence = append(c.Evidence, Evidence{j.optmemSource(), strconv.FormatUint(*v, 10)})
	if j.f.CompletionBytes != nil {
		c.Evidence = append(c.Evidence, Evidence{"option memory of one unread completion, SO_MEMINFO", strconv.FormatUint(*j.f.CompletionBytes, 10)})
	}
	sends := j.sends()
	room := uint64(0) // sock_omalloc checks for completionLeast, then charges a whole one
	if *v >= completionLeast {
		room = 1 + (*v-completionLeast)/j.completion()
	}
	switch {
	case room == 0:
		c.Status = Fail
		c.Detail = fmt.Sprintf("net.core.optmem_max %d has no room for a single completion: every zero-copy send fails with ENOBUFS", *v)
	case room < sends && j.optmemAtLeast():
		c.Status = Unknown
		c.Detail = fmt.Sprintf("net.core.optmem_max is at least %d, room for %d sends in flight on a socket; %s takes %d", *v, room, j.loadText(), sends)
		return c
	case room < sends:
		c.Status = Warn
		c.Detail = fmt.Sprintf("net.core.optmem_max %d holds the completions of %d sends of a socket; %s has %d in flight, and ENOBUFS is the answer to the rest",
			*v, room, j.loadText(), sends)
	default:
		c.Status = Pass
		c.Detail = fmt.Sprintf("net.core.optmem_max %d holds the completions of %d sends of a socket; %s has %d in flight", *v, room, j.loadText(), sends)
		return c
	}
	c.Causes = []string{"optmem-limit"}
	const usual = 131072 // the kernel's default from 6.12 on
	command := fmt.Sprintf("sysctl -w net.core.optmem_max=%d", max(usual, j.r.OptmemNeededBytes))
	if j.f.PID != 0 {
		command = fmt.Sprintf("nsenter -t %d -n ", j.f.PID) + command
	}
	c.Remedy = command
	return c
}

func (j *limitJudge) optmemSource() string {
	if j.f.Sysctls["net.core.optmem_max"] == "" && j.f.OptmemFound != nil {
		return "smallest control message that sendmsg refuses"
	}
	return "net.core.optmem_max"
}

// optmemAtLeast: the trial stopped at its bound.
func (j *limitJudge) optmemAtLeast() bool {
	return j.f.Sysctls["net.core.optmem_max"] == "" && j.f.OptmemFound != nil && *j.f.OptmemFound >= optmemMost
}

// pipe makes the check limit.pipe. Over the soft limit of pages an ordinary
// user's new pipes have two slots, sendfile's inner pipe among them, and over
// the hard one there are none (alloc_pipe_info).
func (j *limitJudge) pipe() Check {
	c := Check{ID: "limit.pipe", Subject: j.who(), Evidence: []Evidence{}, Causes: []string{}}
	size := j.sysctl("fs.pipe-max-size", 0)
	soft, hard := j.sysctl("fs.pipe-user-pages-soft", 0), j.sysctl("fs.pipe-user-pages-hard", 0)
	for _, v := range []struct {
		name  string
		value *uint64
	}{{"fs.pipe-max-size", size}, {"fs.pipe-user-pages-soft", soft}, {"fs.pipe-user-pages-hard", hard}} {
		if v.value == nil {
			c.Status, c.Detail = Unknown, v.name+" could not be read"+j.why(v.name)
			return c
		}
		c.Evidence = append(c.Evidence, Evidence{v.name, strconv.FormatUint(*v.value, 10)})
	}
	yes := func(b *bool) bool { return b != nil && *b }
	initial := yes(j.f.InitUserNS) // a capability in another namespace lifts nothing
	mayGrow, noPages := initial && yes(j.f.CapPipe), initial && yes(j.f.CapPipePages)
	wantPages := mulCap(j.load.Connections, pipeSlots)
	c.Status, c.Causes = Warn, []string{"pipe-slots"}
	switch {
	case *size < pipeWant && !mayGrow:
		c.Detail = fmt.Sprintf("fs.pipe-max-size %d: splice moves at most that much at a time, 1 MiB is wanted", *size)
		c.Remedy = fmt.Sprintf("sysctl -w fs.pipe-max-size=%d", pipeWant)
	case *hard != 0 && *hard < wantPages && !noPages:
		c.Detail = fmt.Sprintf("fs.pipe-user-pages-hard %d: an ordinary user has at most %d pipes, %d are wanted", *hard, *hard/pipeSlots, j.load.Connections)
		c.Remedy = fmt.Sprintf("sysctl -w fs.pipe-user-pages-hard=%d", wantPages)
	case *soft != 0 && *soft < wantPages && !noPages:
		c.Detail = fmt.Sprintf("fs.pipe-user-pages-soft %d: after %d pipes of a user each new one has two slots, and splice and sendfile move 8 KiB at a time; %d are wanted",
			*soft, *soft/pipeSlots, j.load.Connections)
		c.Remedy = fmt.Sprintf("sysctl -w fs.pipe-user-pages-soft=%d", wantPages)
	default:
		c.Status, c.Causes = Pass, []string{}
		c.Detail = j.pipePass(*size, *soft, noPages)
	}
	return c
}

func (j *limitJudge) pipePass(size, soft uint64, noPages bool) string {
	s := fmt.Sprintf("pipes can have %d bytes", max(size, pipeWant))
	if noPages || soft == 0 {
		return s + ", and their number is not limited"
	}
	return s + fmt.Sprintf(", and a user %d of 1 MiB or %d of the usual size", soft*j.page/pipeWant, soft/pipeSlots)
}
