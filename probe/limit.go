package probe

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	unlimited = math.MaxUint64
	// sendBytes is the size of one send that limits are judged by: large enough
	// to gain from zero-copy, and what one TSO packet holds.
	sendBytes = 64 << 10
	// completionBytes is the option memory that one outstanding completion of
	// MSG_ZEROCOPY takes where it could not be measured: the truesize of the skb
	// made by sock_omalloc, the most that was seen. It depends on the kernel's
	// configuration: 768 bytes on Debian's 5.10, 960 on its 6.12 and 7.3, 832 on a small 6.18.
	completionBytes = 960
	// completionLeast is what sock_omalloc asks for before it makes one:
	// SKB_TRUESIZE(0), a struct sk_buff and a struct skb_shared_info.
	completionLeast = 576
	// optmemMost bounds the search for the option memory of a socket, in bytes:
	// the kernel allocates what is asked for in one piece.
	optmemMost = 256 << 10
	// pipeWant is the pipe size that splicing at speed takes.
	pipeWant = 1 << 20
	// pipeSlots is what a pipe has until it is resized (PIPE_DEF_BUFFERS).
	pipeSlots = 16
)

// judgeLimits holds the limits of a process, or of the service that o
// describes, against the load.
func judgeLimits(f *Facts, o Options) Limits {
	j := limitJudge{f: assumeService(f.Limits, o), host: &f.Host, load: o.Load, page: uint64(max(f.Limits.PageSize, 1))}
	if f.Limits.PageSize <= 0 {
		j.page = 4096 // facts of a host that was not looked at
	}
	j.load.BandwidthBytesPerSec = cmp.Or(j.load.BandwidthBytesPerSec, DefaultLoad.BandwidthBytesPerSec)
	j.load.RTT = cmp.Or(j.load.RTT, DefaultLoad.RTT)
	j.load.Connections = cmp.Or(j.load.Connections, DefaultLoad.Connections)
	j.values()
	j.r.Checks = []Check{j.memlock(), j.optmem(), j.pipe()}
	slices.Sort(j.r.Unknown)
	return j.r
}

// assumeService replaces what is known of a process by what o says of a service
// that does not run yet. What o leaves open stays: a service started from here
// inherits it.
func assumeService(l LimitFacts, o Options) LimitFacts {
	if o.ServiceUID == nil && o.ServiceMemlock == nil {
		return l
	}
	l.Hypothetical = true
	l.VmLckBytes, l.VmPinBytes = new(uint64(0)), new(uint64(0))
	if m := o.ServiceMemlock; m != nil {
		l.Memlock = &Rlimit{Soft: *m, Hard: *m}
	}
	if uid := o.ServiceUID; uid != nil {
		if *uid != l.UID || !l.HasUID {
			l.OthersPinBytes = nil
		}
		l.UID, l.HasUID, l.Groups = *uid, true, nil
		if *uid != 0 {
			l.CapIPCLock, l.CapPipe, l.CapPipePages = new(false), new(false), new(false)
		} else { // root keeps what root has here; a bounding set that we cannot know may take it
			l.CapIPCLock, l.CapPipe, l.CapPipePages = keepYes(l.CapIPCLock), keepYes(l.CapPipe), keepYes(l.CapPipePages)
		}
	}
	return l
}

// keepYes keeps a yes: that we lack a capability does not say that root does.
func keepYes(b *bool) *bool {
	if b != nil && *b {
		return b
	}
	return nil
}

// memlockExempt reports whether RLIMIT_MEMLOCK binds no zero-copy send of the
// process: mm_account_pinned_pages asks for CAP_IPC_LOCK in the initial user
// namespace, which root in a container's own does not have.
func memlockExempt(l *LimitFacts) (exempt, known bool) { return inFirstNamespace(l.CapIPCLock, l) }

// inFirstNamespace reports whether the process has a capability in the initial user
// namespace.
func inFirstNamespace(capability *bool, l *LimitFacts) (has, known bool) {
	no := func(b *bool) bool { return b != nil && !*b }
	switch {
	case no(capability) || no(l.InitUserNS):
		return false, true
	case capability == nil || l.InitUserNS == nil:
		return false, false
	}
	return true, true
}

type limitJudge struct {
	f    LimitFacts
	host *HostFacts
	load Load
	page uint64
	r    Limits
}

// values fills in what is only passed on.
func (j *limitJudge) values() {
	r := &j.r
	r.PID, r.UID, r.Unknown = j.f.PID, j.f.UID, []string{}
	if !j.f.HasUID {
		j.unknown("uid")
	}
	r.MemlockBytes, r.MemlockMaxBytes = j.rlimit(j.f.Memlock, "memlock_bytes", "memlock_max_bytes")
	r.NofileSoft, _ = j.rlimit(j.f.Nofile, "nofile_soft", "")
	if j.f.VmLckBytes != nil || j.f.VmPinBytes != nil {
		r.MemlockUsedBytes = new(deref(j.f.VmLckBytes) + deref(j.f.VmPinBytes))
	} else {
		j.unknown("memlock_used_bytes")
	}
	exempt, known := memlockExempt(&j.f)
	if r.MemlockExempt = exempt; !known {
		j.unknown("memlock_exempt")
	}
	if r.PipePagesExempt, known = inFirstNamespace(j.f.CapPipePages, &j.f); !known {
		j.unknown("pipe_pages_exempt")
	}
	if r.OptmemMaxBytes = j.sysctl("net.core.optmem_max", 0); r.OptmemMaxBytes == nil {
		if r.OptmemMaxBytes = j.f.OptmemFound; r.OptmemMaxBytes == nil {
			j.unknown("optmem_max_bytes")
		}
	}
	for _, v := range []struct {
		to    **uint64
		name  string
		field int
		json  string
	}{
		{&r.TCPWmemMaxBytes, "net.ipv4.tcp_wmem", 2, "tcp_wmem_max_bytes"},
		{&r.WmemMaxBytes, "net.core.wmem_max", 0, "wmem_max_bytes"},
		{&r.PipeMaxBytes, "fs.pipe-max-size", 0, "pipe_max_bytes"},
		{&r.PipeUserSoftPages, "fs.pipe-user-pages-soft", 0, "pipe_user_pages_soft"},
		{&r.PipeUserHardPages, "fs.pipe-user-pages-hard", 0, "pipe_user_pages_hard"},
	} {
		if *v.to = j.sysctl(v.name, v.field); *v.to == nil {
			j.unknown(v.json)
		}
	}
	noLimitIfZero(&r.PipeUserSoftPages)
	noLimitIfZero(&r.PipeUserHardPages)
	if v, err := strconv.ParseInt(j.text("kernel.io_uring_disabled"), 10, 64); err == nil {
		r.IOUringDisabled = &v
	} else {
		j.unknown("io_uring_disabled")
	}
	r.MemlockNeededBytes = mulCap(mulCap(j.load.Connections, j.sends()), j.sendPages()*j.page)
	r.OptmemNeededBytes = mulCap(j.sends(), j.completion())
	r.BandwidthBytesPerSec, r.Connections = j.load.BandwidthBytesPerSec, j.load.Connections
	r.RTTNanoseconds = uint64(max(j.load.RTT, 0))
}

func (j *limitJudge) unknown(name string) { j.r.Unknown = append(j.r.Unknown, name) }

func (j *limitJudge) rlimit(l *Rlimit, soft, hard string) (s, h *uint64) {
	if l == nil {
		j.unknown(soft)
		if hard != "" {
			j.unknown(hard)
		}
		return nil, nil
	}
	return finite(l.Soft), finite(l.Hard)
}

func finite(v uint64) *uint64 {
	if v == unlimited {
		return nil
	}
	return &v
}

// noLimitIfZero: fs.pipe-user-pages-* switch the limit off by 0.
func noLimitIfZero(v **uint64) {
	if *v != nil && **v == 0 {
		*v = nil
	}
}

func deref(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

func (j *limitJudge) text(name string) string {
	if v, ok := j.f.Sysctls[name]; ok {
		return v
	}
	if strings.HasPrefix(name, "net.") && j.f.PID != 0 {
		return "" // the host's facts are of our own network namespace
	}
	return j.host.Sysctls[name]
}

// sysctl returns one number of a sysctl; nil if it is not known.
func (j *limitJudge) sysctl(name string, field int) *uint64 {
	f := strings.Fields(j.text(name))
	if field >= len(f) {
		return nil
	}
	v, err := strconv.ParseUint(f[field], 10, 64)
	if err != nil {
		return nil
	}
	return &v
}

// sends is how many sends of sendBytes a connection has in flight when the
// load is spread evenly: bandwidth times round-trip time, and one at least.
func (j *limitJudge) sends() uint64 {
	hi, lo := bits.Mul64(j.load.BandwidthBytesPerSec, uint64(max(j.load.RTT, 0)))
	if hi >= uint64(time.Second) {
		return unlimited
	}
	inFlight, _ := bits.Div64(hi, lo, uint64(time.Second))
	perConnection := inFlight / j.load.Connections
	if inFlight%j.load.Connections != 0 {
		perConnection++
	}
	return max(1, perConnection/sendBytes+min(1, perConnection%sendBytes))
}

// sendPages is what one send of sendBytes is charged, wherever its buffer
// begins: mm_account_pinned_pages adds two pages.
func (j *limitJudge) sendPages() uint64 { return sendBytes/j.page + 2 }

// completion is the option memory of one outstanding completion.
func (j *limitJudge) completion() uint64 {
	if j.f.CompletionBytes == nil {
		return completionBytes
	}
	return max(1, *j.f.CompletionBytes)
}

func mulCap(a, b uint64) uint64 {
	if hi, lo := bits.Mul64(a, b); hi == 0 {
		return lo
	}
	return unlimited
}

// loadText states the load, for every answer that depends on it.
func (j *limitJudge) loadText() string {
	return fmt.Sprintf("%s Gbit/s over %d %s with %v round trip",
		strconv.FormatFloat(float64(j.load.BandwidthBytesPerSec)*8/1e9, 'g', 4, 64),
		j.load.Connections, plural(int(min(j.load.Connections, 2)), "connection", "connections"), j.load.RTT)
}
