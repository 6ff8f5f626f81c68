package probe

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// childOrder is what a child does to itself before it probes.
type childOrder struct {
	Memlock *uint64  // RLIMIT_MEMLOCK, soft and hard
	Deny    []uint32 // numbers of the system calls that a filter refuses
	Errno   uint16   // with which errno
	Blind   bool     // as if /proc and /sys could not be read
}

// childKernel probes the kernel's features under an order. The filter is on
// the whole process, as a service manager or a container would have it.
func childKernel(t *testing.T, arg json.RawMessage) any {
	var o childOrder
	if err := json.Unmarshal(arg, &o); err != nil {
		t.Fatal(err)
	}
	if o.Memlock != nil {
		setRlimit(t, unix.RLIMIT_MEMLOCK, *o.Memlock)
	}
	if len(o.Deny) > 0 {
		filterCalls(t, o.Deny, o.Errno)
	}
	f := hereFacts(t)
	if o.Blind {
		f.Host.Config, f.Host.ConfigSource = nil, ""
	}
	return f
}

// filterCalls makes the kernel answer the given system calls of this process
// with an errno; seccomp(2).
func filterCalls(t *testing.T, deny []uint32, errno uint16) {
	const load, equal, ret, nrOffset = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K, 0
	prog := []unix.SockFilter{{Code: load, K: nrOffset}}
	for i, nr := range deny {
		prog = append(prog, unix.SockFilter{Code: equal, Jt: uint8(len(deny) - i), K: nr})
	}
	prog = append(prog, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// TSYNC: every thread, those of the Go runtime too.
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p))); e != 0 {
		t.Fatalf("seccomp: %v", e)
	}
}

// probeChild probes in a child under an order and returns what the features are.
func probeChild(t *testing.T, ns *testenv.NetNS, o childOrder, setup func(*exec.Cmd)) (*Facts, map[string]Feature) {
	t.Helper()
	var f Facts
	runChild(t, ns, "kernel", o, &f, setup)
	out := map[string]Feature{}
	for _, x := range judgeKernel(&f) {
		out[x.ID] = x
	}
	return &f, out
}

// TestSeccomp puts real filters on a process. What a filter refuses is never
// called unsupported, and what it leaves alone is as without it.
func TestSeccompFeatures(t *testing.T) {
	_, free := probeChild(t, nil, childOrder{}, nil)
	uring := []string{"io_uring", "io_uring.send_zc", "io_uring.sendmsg_zc", "io_uring.fixed_buffers"}
	splice := []string{"sendfile.tcp", "sendfile.udp", "sendfile.unix", "sendfile.pipe", "sendfile.file", "splice.file-tcp", "splice.tcp-tcp", "vmsplice", "tee", "copy_file_range"}
	for _, c := range []struct {
		name     string
		deny     []uint32
		affected []string
	}{
		{"io_uring_setup", []uint32{unix.SYS_IO_URING_SETUP}, uring},
		{"io_uring_enter", []uint32{unix.SYS_IO_URING_ENTER}, uring},
		{"io_uring_register", []uint32{unix.SYS_IO_URING_REGISTER}, []string{"io_uring.fixed_buffers"}},
		{"moving data", []uint32{unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_VMSPLICE, unix.SYS_TEE, unix.SYS_COPY_FILE_RANGE}, splice},
		{"memfd", []uint32{unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET}, []string{"memfd.seal", "memfd_secret", "sendfile.file", "copy_file_range"}},
		{"setsockopt", []uint32{unix.SYS_SETSOCKOPT}, nil},
		{"socket", []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR}, nil},
	} {
		for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOSYS} {
			t.Run(c.name+" "+sys.ErrnoName(errno), func(t *testing.T) {
				for _, blind := range []bool{true, false} {
					f, got := probeChild(t, nil, childOrder{Deny: c.deny, Errno: uint16(errno), Blind: blind}, nil)
					if f.Host.Seccomp != "filter" {
						t.Errorf("seccomp is %q", f.Host.Seccomp)
					}
					for id, x := range got {
						hit := slices.Contains(c.affected, id)
						switch {
						case c.affected != nil && !hit && x.Status != free[id].Status:
							t.Errorf("%s was %s, is %s: %s", id, free[id].Status, x.Status, x.Detail)
						case hit && blind && free[id].Status == Supported && x.Status != UnknownFeature:
							t.Errorf("%s is %s: %s", id, x.Status, x.Detail)
						case hit && free[id].Status == Supported && x.Status != UnknownFeature && x.Status != Denied:
							t.Errorf("%s is %s: %s", id, x.Status, x.Detail)
						case free[id].Status == Supported && x.Status == Unsupported:
							t.Errorf("%s is called unsupported: %s", id, x.Detail)
						}
					}
				}
			})
		}
	}
}

// TestMemlockFeatures gives an ordinary user little or nothing to lock.
func TestMemlockFeatures(t *testing.T) {
	testenv.Root(t)
	zerocopy := []string{"msg_zerocopy.tcp4", "msg_zerocopy.tcp6", "msg_zerocopy.udp4", "msg_zerocopy.udp6"}
	_, asRoot := probeChild(t, nil, childOrder{Memlock: new(uint64(0))}, nil)
	_, none := probeChild(t, nil, childOrder{Memlock: new(uint64(0))}, asNobody)
	_, some := probeChild(t, nil, childOrder{Memlock: new(uint64(64 << 10))}, asNobody)
	for _, id := range zerocopy {
		if x := asRoot[id]; x.Status != Supported || x.Remedy != "" {
			t.Errorf("root is exempt, but %s is %s: %s", id, x.Status, x.Detail)
		}
		if x := none[id]; x.Status != Disabled || !strings.Contains(x.Remedy, "LimitMEMLOCK") || !strings.Contains(x.Detail, "0 bytes") {
			t.Errorf("limit 0: %s is %s: %s", id, x.Status, x.Detail)
		}
	}
	// A send pins two pages more than it has: 64 KiB do not fit 64 KiB, 60 KiB do
	// not, and 4 KiB do.
	for _, id := range zerocopy {
		if x := some[id]; x.Status != Supported || !strings.Contains(x.Detail, "65536 bytes refuses") {
			t.Errorf("limit 64 KiB: %s is %s: %s", id, x.Status, x.Detail)
		}
	}
	for _, id := range []string{"io_uring", "io_uring.send_zc", "memfd_secret"} {
		if x := none[id]; asRoot[id].Status == Supported && x.Status != Disabled && x.Status != Supported {
			t.Errorf("limit 0: %s is %s: %s", id, x.Status, x.Detail)
		}
		if x := some[id]; asRoot[id].Status == Supported && x.Status != Supported {
			t.Errorf("limit 64 KiB: %s is %s: %s", id, x.Status, x.Detail)
		}
	}
	for _, id := range []string{"packet_tx_ring", "af_xdp"} {
		if x := some[id]; asRoot[id].Status == Supported && x.Status != Denied {
			t.Errorf("an ordinary user's %s is %s: %s", id, x.Status, x.Detail)
		}
	}
	for _, id := range []string{"sendfile.tcp", "splice.file-tcp", "vmsplice", "tee", "udp.gso", "tcp.cork"} {
		if none[id].Status != asRoot[id].Status {
			t.Errorf("%s is %s for root and %s for nobody", id, asRoot[id].Status, none[id].Status)
		}
	}
}

// TestUserNamespaceFeatures makes an ordinary user root of a namespace of its
// own. The capabilities it has there lift no limit of the host.
func TestUserNamespaceFeatures(t *testing.T) {
	testenv.Root(t)
	inNamespace := func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}
	}
	f, got := probeChild(t, nil, childOrder{Memlock: new(uint64(0))}, inNamespace)
	if f.Host.InitUserNS == nil || *f.Host.InitUserNS || f.Host.UID != 0 || f.Host.CapEff>>capIPCLock&1 != 1 {
		t.Fatalf("user namespace %v, uid %d, capabilities %#x", f.Host.InitUserNS, f.Host.UID, f.Host.CapEff)
	}
	if x := got["msg_zerocopy.tcp4"]; x.Status != Disabled {
		t.Errorf("MSG_ZEROCOPY is %s: %s", x.Status, x.Detail)
	}
	// The network namespace still belongs to the host's user namespace.
	if x := got["packet_tx_ring"]; x.Status != Denied {
		t.Errorf("PACKET_TX_RING is %s: %s", x.Status, x.Detail)
	}
}

// TestLoopbackDownFeatures probes where nothing can be sent, and where IPv6 has
// no address.
func TestLoopbackDownFeatures(t *testing.T) {
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "set", "lo", "down")
	_, down := probeChild(t, ns, childOrder{}, nil)
	for _, id := range []string{"sendfile.tcp", "sendfile.udp", "splice.file-tcp", "msg_zerocopy.tcp4", "udp.gso", "tcp.cork"} {
		if x := down[id]; x.Status != UnknownFeature || x.Remedy != "ip link set lo up" {
			t.Errorf("%s is %s: %s (%s)", id, x.Status, x.Detail, x.Remedy)
		}
	}
	for _, id := range []string{"tee", "vmsplice", "sendfile.unix", "memfd.seal"} {
		if x := down[id]; x.Status != Supported {
			t.Errorf("%s is %s: %s", id, x.Status, x.Detail)
		}
	}
	ns.Run("ip", "link", "set", "lo", "up")
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return
	}
	ns.Run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
	_, up := probeChild(t, ns, childOrder{}, nil)
	if x := up["msg_zerocopy.tcp4"]; x.Status != Supported {
		t.Errorf("IPv4 is %s: %s", x.Status, x.Detail)
	}
	for _, id := range []string{"msg_zerocopy.tcp6", "msg_zerocopy.udp6"} {
		if x := up[id]; x.Status != Disabled || !strings.Contains(x.Remedy, "disable_ipv6=0") {
			t.Errorf("%s is %s: %s (%s)", id, x.Status, x.Detail, x.Remedy)
		}
	}
}

// TestTightNamespaceFeatures probes where sockets have next to no buffer and
// loopback a small MTU: nothing about the kernel's features hangs on either.
func TestTightNamespaceFeatures(t *testing.T) {
	ns := testenv.NewNetNS(t)
	_, roomy := probeChild(t, ns, childOrder{}, nil)
	ns.Run("sysctl", "-q", "-w", "net.ipv4.tcp_wmem=4096 4096 4096", "net.ipv4.tcp_rmem=4096 4096 4096")
	ns.Run("ip", "link", "set", "lo", "mtu", "1500")
	_, tight := probeChild(t, ns, childOrder{}, nil)
	for id, x := range tight {
		if x.Status != roomy[id].Status {
			t.Errorf("%s is %s, was %s: %s", id, x.Status, roomy[id].Status, x.Detail)
		}
	}
	if roomy["sendfile.tcp"].Status != Supported {
		t.Errorf("sendfile to TCP is %s", roomy["sendfile.tcp"].Status)
	}
}

// TestFunctestsTLSList asks in which cases TLS may be asked for. In a network
// namespace other than the first the list does not exist: the module decides.
func TestFunctestsTLSList(t *testing.T) {
	for _, c := range []struct {
		list   *string
		module string
		tried  bool
		listed bool // Seen "listed" 0 is set
	}{
		{new("mptcp tls"), "unknown", true, false},
		{new("mptcp"), "loaded", false, true},
		{nil, "loaded", true, false},
		{nil, "builtin", true, false},
		{nil, "available", false, true},
		{nil, "unknown", false, false},
		{nil, "absent", false, false},
	} {
		h := &HostFacts{Sysctls: map[string]string{}, Modules: map[string]string{"tls": c.module}}
		if c.list != nil {
			h.Sysctls["net.ipv4.tcp_available_ulp"] = *c.list
		}
		tr := &trial{rig: newRig(t.Context(), kernelCalls(), h), out: Outcome{Seen: map[string]int64{}}}
		got := tr.tlsLoaded()
		if _, listed := tr.out.Seen["listed"]; got != c.tried || listed != c.listed || got == (tr.out.NotTried != "") {
			t.Errorf("list %v, module %s: tried %v, %+v", c.list, c.module, got, tr.out)
		}
	}
}
