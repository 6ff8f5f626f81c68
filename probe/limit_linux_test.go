package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// memlockTrial asks a child to send with MSG_ZEROCOPY under a limit.
type memlockTrial struct {
	Memlock uint64 // soft and hard; 0 is a limit too
	UID     int    // to become after that; 0: stay
	Sizes   []int  // one send each, over connections of their own
}

type memlockResult struct {
	Facts  LimitFacts
	Errnos []string // of the sends
}

func childMemlock(t *testing.T, arg json.RawMessage) any {
	var trial memlockTrial
	if err := json.Unmarshal(arg, &trial); err != nil {
		t.Fatal(err)
	}
	setRlimit(t, unix.RLIMIT_MEMLOCK, trial.Memlock)
	if trial.UID != 0 { // only now: an ordinary user cannot raise a limit
		if err := syscall.Setuid(trial.UID); err != nil {
			t.Fatal(err)
		}
	}
	r := memlockResult{Facts: limitsHere(t, Options{})}
	for _, size := range trial.Sizes {
		r.Errnos = append(r.Errnos, sys.ErrnoName(sendOverLoopback(t, size)))
	}
	return r
}

func limitsHere(t *testing.T, o Options) (f LimitFacts) {
	t.Helper()
	err := onProbeThread(t.Context(), func() error {
		s := liveSources()
		f = readLimits(t.Context(), s, findNamespaces(s), o)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return f
}

// sendOverLoopback makes one zero-copy send on a connection of its own, waits
// for its completion, so that its charge is gone, and returns the send's error.
func sendOverLoopback(t *testing.T, size int) error {
	t.Helper()
	check := func(err error) {
		if err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	l, err := sys.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	check(err)
	defer sys.Close(l)
	check(sys.Bind(l, netip.MustParseAddrPort("127.0.0.1:0")))
	check(sys.Listen(l, 1))
	to, err := sys.LocalAddr(l)
	check(err)
	fd, err := sys.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	check(err)
	defer sys.Close(fd)
	check(sys.Connect(fd, to))
	if _, err := sys.Poll(fd, unix.POLLOUT, 5000); err != nil {
		t.Fatal(err)
	}
	check(sys.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1))
	if _, err := sys.Poll(l, unix.POLLIN, 5000); err != nil {
		t.Fatal(err)
	}
	peer, _, err := sys.Accept(l)
	check(err)
	defer sys.Close(peer)
	n, err := sys.Send(fd, make([]byte, size), unix.MSG_ZEROCOPY)
	if err != nil {
		return err
	}
	for b := make([]byte, 1<<20); n > 0; {
		if _, err := sys.Poll(peer, unix.POLLIN, 5000); err != nil {
			t.Fatal(err)
		}
		got, err := sys.Recv(peer, b, 0)
		check(err)
		n -= got
	}
	if ev, err := sys.Poll(fd, 0, 5000); err != nil || ev&unix.POLLERR == 0 {
		t.Fatalf("no completion: %#x, %v", ev, err)
	}
	return nil
}

// What is said of a limit is what happens to sends: the largest that is said to
// pass does, and one byte more does not.
func TestMemlockIsTrue(t *testing.T) { memlockIsTrue(t) }

func TestGuestMemlock(t *testing.T) {
	testenv.Guest(t)
	memlockIsTrue(t)
}

func memlockIsTrue(t *testing.T) {
	ns := testenv.NewNetNS(t)
	const page = 4096
	if os.Getpagesize() != page {
		t.Fatal("the figures are for pages of 4096 bytes")
	}
	for i, c := range []struct {
		memlock uint64
		status  CheckStatus // of a load that one send carries
		largest int         // bytes of one send; 0: none passes
	}{
		{0, Fail, 0},
		{uint64(page), Fail, 0},
		{uint64(2 * page), Fail, page - 1},
		{64 << 10, Fail, 15*4096 - 1}, // 57345 passes, 61440 does not
		{18 * 4096, Pass, 17*4096 - 1},
		{18*4096 - 1, Fail, 16*4096 - 1},
		{1 << 20, Pass, 255*4096 - 1},
	} {
		t.Run(fmt.Sprint(c.memlock), func(t *testing.T) {
			// A user of its own: locked memory is counted by user, host-wide.
			trial := memlockTrial{Memlock: c.memlock, UID: 1<<20 + os.Getpid()*16 + i, Sizes: []int{1, 57345, 61440, sendBytes}}
			if c.largest > 0 {
				trial.Sizes = append(trial.Sizes, c.largest, c.largest+1)
			}
			var r memlockResult
			runChild(t, ns, "memlock", trial, &r, nil)
			for i, size := range trial.Sizes {
				want := ""
				if size > c.largest {
					want = "ENOBUFS"
				}
				if r.Errnos[i] != want {
					t.Errorf("send of %d bytes: %q, want %q", size, r.Errnos[i], want)
				}
			}
			l := judgeLimits(&Facts{Limits: r.Facts}, Options{Load: Load{Connections: 1, BandwidthBytesPerSec: 1, RTT: 1}})
			if got := checkNamed(l, "limit.memlock"); got.Status != c.status || l.MemlockBytes == nil || *l.MemlockBytes != c.memlock || l.MemlockExempt {
				t.Errorf("check %+v, limits %+v; want %s", got, l, c.status)
			} else if c.largest > 0 && c.status == Fail && !strings.Contains(got.Detail, fmt.Sprintf("over %d bytes", c.largest)) {
				t.Errorf("detail %q does not name %d", got.Detail, c.largest)
			}
		})
	}
}

// Root is exempt, and is told what a service would meet.
func TestMemlockRoot(t *testing.T) {
	ns := testenv.NewNetNS(t)
	var r memlockResult
	runChild(t, ns, "memlock", memlockTrial{Memlock: 4096, Sizes: []int{1, sendBytes}}, &r, nil)
	if !slices.Equal(r.Errnos, []string{"", ""}) {
		t.Errorf("sends as root: %q", r.Errnos)
	}
	l := judgeLimits(&Facts{Limits: r.Facts}, Options{})
	c := checkNamed(l, "limit.memlock")
	if c.Status != Pass || !l.MemlockExempt || !strings.Contains(c.Detail, "every zero-copy send fails") {
		t.Errorf("check %+v", c)
	}
}

// Root of a container's user namespace has CAP_IPC_LOCK there, and it lifts
// nothing.
func TestMemlockUserNamespace(t *testing.T) {
	testenv.Root(t)
	ns := testenv.NewNetNS(t)
	var r memlockResult
	uid := 1<<20 + os.Getpid()*16 + 15
	runChild(t, ns, "memlock", memlockTrial{Memlock: 64 << 10, Sizes: []int{57345, 61440}}, &r, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}
	})
	if !slices.Equal(r.Errnos, []string{"", "ENOBUFS"}) {
		t.Errorf("sends: %q", r.Errnos)
	}
	l := judgeLimits(&Facts{Limits: r.Facts}, Options{})
	if c := checkNamed(l, "limit.memlock"); c.Status != Fail || l.MemlockExempt || l.UID != 0 ||
		!sameBool(r.Facts.CapIPCLock, new(true)) || !sameBool(r.Facts.InitUserNS, new(false)) {
		t.Errorf("check %+v, facts %+v", c, r.Facts)
	}
}

// heldSends sends zero-copy datagrams on a socket whose device holds them
// back, until one is refused, and returns how many were not, and the errno.
func heldSends(ns *testenv.NetNS, to netip.AddrPort, most int) (sent int, errno string, err error) {
	ns.Do(func() {
		var fd int
		if fd, err = sys.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return
		}
		defer sys.Close(fd)
		err = errors.Join(sys.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1),
			sys.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20), sys.Connect(fd, to))
		if err != nil {
			return
		}
		b := make([]byte, 1200)
		for sent = 0; sent < most; sent++ {
			if _, e := sys.Send(fd, b, unix.MSG_ZEROCOPY); e != nil {
				errno = sys.ErrnoName(e)
				return
			}
		}
	})
	return sent, errno, err
}

// The number of completions that the option memory is said to hold is the
// number of sends that are accepted.
func TestOptmemIsTrue(t *testing.T) {
	optmemIsTrue(t, []int{575, 576, 1000, 1407, 1408, 2048, 20480, 131072},
		func(ns *testenv.NetNS, value string) { ns.SetSysctl("net.core.optmem_max", value) })
}

// TestGuestOptmem covers the kernels whose optmem_max is the host's: there the
// namespace of the test, like a container's, does not even show it.
func TestGuestOptmem(t *testing.T) {
	testenv.Guest(t)
	const name = "/proc/sys/net/core/optmem_max"
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(name, was, 0) })
	optmemIsTrue(t, []int{575, 576, 20480}, func(ns *testenv.NetNS, value string) {
		if _, err := ns.Try("cat", name); err == nil {
			ns.SetSysctl("net.core.optmem_max", value)
		} else if err := os.WriteFile(name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	})
}

func optmemIsTrue(t *testing.T, values []int, set func(ns *testenv.NetNS, value string)) {
	for _, optmem := range values {
		t.Run(fmt.Sprint(optmem), func(t *testing.T) {
			ns, to := sinkNS(t)
			ns.Run("tc", "qdisc", "add", "dev", "sink", "root", "tbf", "rate", "8bit", "burst", "1540", "limit", "100mb")
			var f LimitFacts
			set(ns, fmt.Sprint(optmem))
			ns.Do(func() { f = limitsHere(t, Options{}) })
			l := judgeLimits(&Facts{Limits: f}, Options{})
			if l.OptmemMaxBytes == nil || *l.OptmemMaxBytes != uint64(optmem) {
				t.Fatalf("optmem_max read as %v, facts %+v", l.OptmemMaxBytes, f)
			}
			sent, errno, err := heldSends(ns, to, 1000)
			if err != nil || errno != "ENOBUFS" {
				t.Fatalf("%d sends, then %q, %v", sent, errno, err)
			}
			// A load with so many in flight passes, with one more it does not.
			for inFlight, pass := range map[int]bool{sent + 1: false, sent: true} {
				if inFlight == 0 {
					continue
				}
				load := Load{Connections: 1, RTT: 1e9, BandwidthBytesPerSec: uint64(inFlight) * sendBytes}
				c := checkNamed(judgeLimits(&Facts{Limits: f}, Options{Load: load}), "limit.optmem")
				if (c.Status == Pass) != pass || (c.Status == Fail) != (sent == 0) {
					t.Errorf("%d sends are accepted; of %d: %+v", sent, inFlight, c)
				}
			}
		})
	}
}

// Where the sysctl cannot be seen, a trial finds it.
func TestOptmemTrial(t *testing.T) {
	ns := testenv.NewNetNS(t)
	for _, optmem := range []uint64{1024, 20480, 131072, 262143, 262144, 1 << 20} {
		ns.SetSysctl("net.core.optmem_max", fmt.Sprint(optmem))
		ns.Do(func() {
			r := limitReader{f: LimitFacts{Sysctls: map[string]string{}}}
			r.optmem()
			if r.f.OptmemFound == nil || *r.f.OptmemFound != min(optmem, optmemMost) {
				t.Errorf("optmem_max %d found as %d, errors %q", optmem, deref(r.f.OptmemFound), r.f.Errors)
			}
		})
	}
}

// As many pipes as are said have all their slots, and the next one has two.
func TestPipesAreTrue(t *testing.T) {
	testenv.Root(t)
	var r struct {
		Facts LimitFacts
		Whole int // pipes before the first small one
		Small int // its bytes
	}
	runChild(t, nil, "pipes", nil, &r, asUser(uint32(1<<20+os.Getpid()*16+14)))
	soft := judgeLimits(&Facts{Limits: r.Facts}, Options{}).PipeUserSoftPages
	if soft == nil {
		t.Fatal("no soft limit to try")
	}
	for connections, want := range map[int]CheckStatus{r.Whole: Pass, r.Whole + 1: Warn} {
		c := checkNamed(judgeLimits(&Facts{Limits: r.Facts}, Options{Load: Load{Connections: uint64(connections)}}), "limit.pipe")
		if c.Status != want {
			t.Errorf("%d pipes are whole; of %d: %+v", r.Whole, connections, c)
		}
	}
	if r.Small != 2*os.Getpagesize() {
		t.Errorf("pipe %d has %d bytes", r.Whole+1, r.Small)
	}
}

func childPipes(t *testing.T, _ json.RawMessage) any {
	var r struct {
		Facts        LimitFacts
		Whole, Small int
	}
	r.Facts = limitsHere(t, Options{})
	for range 8000 {
		p, err := sys.Pipe()
		if err != nil {
			t.Fatalf("after %d pipes: %v", r.Whole, err)
		}
		if r.Small, err = sys.PipeSize(p[0]); err != nil {
			t.Fatal(err)
		}
		if r.Small != pipeSlots*os.Getpagesize() {
			return r
		}
		r.Whole++
	}
	t.Fatalf("%d pipes, all whole", r.Whole)
	return nil
}

// The limits of another process are its own, in its own namespace.
func TestLimitsOfAnotherProcess(t *testing.T) {
	ours, theirs := testenv.NewNetNS(t), testenv.NewNetNS(t)
	cmd := exec.Command(testenv.Tool(t, "prlimit"), "--memlock=77824:81920", "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{7}}}
	var err error
	theirs.SetSysctl("net.ipv4.tcp_wmem", "4096 8192 12345")
	theirs.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	waitForCommand(t, cmd.Process.Pid, "sleep")
	for _, who := range []string{"root", "nobody", "another user"} {
		t.Run(who, func(t *testing.T) {
			var f LimitFacts
			arg := Options{PID: cmd.Process.Pid}
			switch who {
			case "root":
				ours.Do(func() { f = limitsHere(t, arg) })
			case "nobody":
				runChild(t, ours, "limits", arg, &f, asUser(nobody))
			default:
				runChild(t, ours, "limits", arg, &f, asUser(nobody-1))
			}
			l := judgeLimits(&Facts{Limits: f}, arg)
			if l.UID != nobody || l.MemlockBytes == nil || *l.MemlockBytes != 77824 || *l.MemlockMaxBytes != 81920 || l.MemlockExempt ||
				!slices.Equal(f.Groups, []int{7}) || f.Seccomp != "none" {
				t.Errorf("limits %+v, facts %+v", l, f)
			}
			if who == "root" && (l.TCPWmemMaxBytes == nil || *l.TCPWmemMaxBytes != 12345) {
				t.Errorf("tcp_wmem of its namespace: %v, errors %q", l.TCPWmemMaxBytes, f.Errors)
			}
			if who != "root" && (l.TCPWmemMaxBytes != nil || !slices.Contains(l.Unknown, "tcp_wmem_max_bytes")) {
				t.Errorf("tcp_wmem of a namespace that cannot be entered: %v, unknown %q", l.TCPWmemMaxBytes, l.Unknown)
			}
		})
	}
}

func childLimits(t *testing.T, arg json.RawMessage) any {
	var o Options
	if err := json.Unmarshal(arg, &o); err != nil {
		t.Fatal(err)
	}
	return limitsHere(t, o)
}

func TestLimitsOfNoProcess(t *testing.T) {
	f := limitsHere(t, Options{PID: math.MaxInt32})
	l := judgeLimits(&Facts{Limits: f}, Options{})
	for _, c := range l.Checks {
		if c.Status != Unknown || !strings.Contains(c.Detail, "no such process") {
			t.Errorf("%+v", c)
		}
	}
	if l.MemlockExempt || !slices.Contains(l.Unknown, "memlock_bytes") || !slices.Contains(l.Unknown, "uid") {
		t.Errorf("limits %+v", l)
	}
}
