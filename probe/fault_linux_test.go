package probe

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// refusing returns the kernel's calls, except that those which refuse picks by
// their names do nothing and fail with err.
func refusing(err error, refuse func(name string) bool) *calls {
	k := kernelCalls()
	v := reflect.ValueOf(k).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; refuse(name) && name != "CloseFD" && name != "Munmap" {
			v.Field(i).Set(failing(v.Field(i).Type(), err))
		}
	}
	return k
}

// failing is a function of the given type that returns err: -1 for numbers,
// nothing for the rest.
func failing(typ reflect.Type, err error) reflect.Value {
	return reflect.MakeFunc(typ, func([]reflect.Value) []reflect.Value {
		out := make([]reflect.Value, typ.NumOut())
		for i := range out {
			out[i] = reflect.New(typ.Out(i)).Elem()
			switch {
			case i == len(out)-1:
				out[i].Set(reflect.ValueOf(err))
			case out[i].Kind() == reflect.Int:
				out[i].SetInt(-1)
			}
		}
		return out
	})
}

// faultyFacts are the facts of this machine when its kernel refuses calls.
func faultyFacts(t *testing.T, err error, refuse func(string) bool) *Facts {
	t.Helper()
	f := &Facts{Host: readProcess(liveSources())}
	f.Host.Seccomp = "none"
	start := time.Now()
	tests := functests()
	if !slices.ContainsFunc(packetCalls, refuse) {
		// Waits for the kernel longer than all the others together.
		tests = slices.DeleteFunc(tests, func(ft functest) bool { return ft.id == "packet_tx_ring" })
	}
	f.Outcomes = runFunctests(t.Context(), refusing(err, refuse), &f.Host, tests)
	// Far above what any test may wait, to tell a hang from a slow machine.
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	return f
}

// packetCalls are those that the test of PACKET_TX_RING makes.
var packetCalls = []string{"Socket", "BindPacket", "SetInt", "SetBytes", "Mmap", "Send", "Recv", "Poll"}

// TestFunctestsAllRefused makes every call fail in one way. Nothing can then
// be supported, and what a refusal means is the same everywhere.
func TestFunctestsAllRefused(t *testing.T) {
	for _, c := range []struct {
		err     syscall.Errno
		seccomp string
		allowed []FeatureStatus
	}{
		{syscall.ENOSYS, "none", []FeatureStatus{Unsupported, Disabled, UnknownFeature}},
		{syscall.ENOSYS, "filter", []FeatureStatus{UnknownFeature, Disabled}},
		{syscall.EPERM, "none", []FeatureStatus{Denied, UnknownFeature, Disabled}},
		{syscall.EPERM, "filter", []FeatureStatus{UnknownFeature, Denied}},
		{syscall.EACCES, "none", []FeatureStatus{Denied, UnknownFeature}},
		{syscall.ENOMEM, "none", []FeatureStatus{UnknownFeature}},
		{syscall.EMFILE, "none", []FeatureStatus{UnknownFeature}},
		{syscall.EINTR, "none", []FeatureStatus{UnknownFeature}},
		{syscall.EAGAIN, "none", []FeatureStatus{UnknownFeature}},
		{syscall.EINVAL, "none", []FeatureStatus{UnknownFeature, Unsupported}},
		{524, "none", []FeatureStatus{UnknownFeature, Unsupported}},
	} {
		t.Run(sys.ErrnoName(c.err)+" "+c.seccomp, func(t *testing.T) {
			f := faultyFacts(t, sys.Wrap("refused", c.err), func(string) bool { return true })
			f.Host.Seccomp = c.seccomp
			for _, x := range judgeKernel(f) {
				// What was not tried for fear of loading a module does not count.
				i := slices.IndexFunc(f.Outcomes, func(o Outcome) bool { return o.ID == x.ID })
				if f.Outcomes[i].NotTried != "" {
					continue
				}
				if !slices.Contains(c.allowed, x.Status) {
					t.Errorf("%s is %s: %s", x.ID, x.Status, x.Detail)
				}
			}
		})
	}
}

// TestFunctestsOneRefused makes one call at a time fail. Each test must end,
// give back what it took, and never call something supported whose own call
// failed; what does not use the call is as before.
func TestFunctestsOneRefused(t *testing.T) {
	whole := judgedStatus(hereFacts(t))
	typ := reflect.TypeFor[calls]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if name == "CloseFD" || name == "Munmap" {
			continue
		}
		for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOSYS} {
			t.Run(name+" "+sys.ErrnoName(errno), func(t *testing.T) {
				before := openDescriptors(t)
				f := faultyFacts(t, sys.Wrap("refused", errno), func(n string) bool { return n == name })
				if after := openDescriptors(t); after > before {
					t.Errorf("%d descriptors before, %d after", before, after)
				}
				got := judgedStatus(f)
				for id, status := range got {
					if status == Supported && whole[id] != Supported {
						t.Errorf("%s is supported without %s, and %s with it", id, name, whole[id])
					}
				}
				for id, call := range decisiveCalls {
					if call == name && got[id] == Supported {
						t.Errorf("%s is supported though %s fails", id, name)
					}
				}
			})
		}
	}
}

// decisiveCalls are the calls without which a feature cannot be there.
var decisiveCalls = map[string]string{
	"sendfile.tcp": "Sendfile", "sendfile.udp": "Sendfile", "sendfile.unix": "Sendfile", "sendfile.pipe": "Sendfile", "sendfile.file": "Sendfile",
	"splice.file-tcp": "Splice", "splice.tcp-tcp": "Splice", "vmsplice": "Vmsplice", "tee": "Tee", "pipe.resize": "SetPipeSize",
	"copy_file_range": "CopyRange", "memfd.seal": "AddSeals", "memfd_secret": "MemfdSecret", "udp.gso": "SetInt", "tcp.cork": "SetInt",
	"msg_zerocopy.tcp4": "SetInt", "msg_zerocopy.udp4": "RecvErr", "msg_zerocopy.tcp6": "RecvErr", "msg_zerocopy.udp6": "SetInt",
	"io_uring": "UringSetup", "io_uring.send_zc": "UringEnter", "io_uring.sendmsg_zc": "UringSetup", "io_uring.fixed_buffers": "UringReg",
	"tcp_zerocopy_receive": "GetBytes", "packet_tx_ring": "SetBytes", "af_xdp": "SetBytes", "devmem.tx": "OpenNetlink",
}

func judgedStatus(f *Facts) map[string]FeatureStatus {
	out := map[string]FeatureStatus{}
	for _, x := range judgeKernel(f) {
		out[x.ID] = x.Status
	}
	return out
}

// TestFunctestsStop stops in the middle: what was not tried says so.
func TestFunctestsStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := readProcess(liveSources())
	k := kernelCalls()
	sendfile := k.Sendfile
	k.Sendfile = func(out, in int, off *int64, n int) (int, error) {
		cancel()
		return sendfile(out, in, off, n)
	}
	out := runFunctests(ctx, k, &h, functests())
	stopped := 0
	for _, o := range out {
		if strings.Contains(o.NotTried, "stopped") {
			stopped++
		}
	}
	if stopped < 10 || stopped == len(out) {
		t.Errorf("%d of %d tests were stopped", stopped, len(out))
	}
}

// TestFunctestsCorruption spoils what arrives. A test that compares nothing
// would not notice.
func TestFunctestsCorruption(t *testing.T) {
	k := kernelCalls()
	recv, read, pread := k.Recv, k.Read, k.Pread
	spoil := func(p []byte, n int) {
		if n > 20 { // leaves the marker of datagram tests alone
			p[n/4] ^= 1
		}
	}
	k.Recv = func(fd int, p []byte, flags int) (int, error) {
		n, err := recv(fd, p, flags)
		spoil(p, n)
		return n, err
	}
	k.Read = func(fd int, p []byte) (int, error) {
		n, err := read(fd, p)
		spoil(p, n)
		return n, err
	}
	k.Pread = func(fd int, p []byte, off int64) (int, error) {
		n, err := pread(fd, p, off)
		spoil(p, n)
		return n, err
	}
	f := &Facts{Host: readProcess(liveSources())}
	f.Outcomes = runFunctests(t.Context(), k, &f.Host, functests())
	for id, status := range judgedStatus(f) {
		switch id {
		case "io_uring", "memfd_secret", "pipe.resize", "af_xdp", "devmem.tx", "tcp_zerocopy_receive", "ktls.tx_zerocopy_ro":
			continue // nothing is received by the calls spoilt here
		}
		if status == Supported {
			t.Errorf("%s is supported though its content is wrong", id)
		}
	}
}

// TestFunctestsSilentLoopback drops connections without a word, as a packet
// filter can: one test waits for it, the others know.
func TestFunctestsSilentLoopback(t *testing.T) {
	k := kernelCalls()
	k.Connect = func(int, netip.AddrPort) error { return sys.Wrap("connect", syscall.EINPROGRESS) }
	k.Poll = func(_ int, _ int16, ms int) (int16, error) {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return 0, nil
	}
	h := readProcess(liveSources())
	f := &Facts{Host: h, Outcomes: runFunctests(t.Context(), k, &h, spliceTests())}
	waited := 0
	for _, o := range f.Outcomes {
		for _, s := range o.Steps {
			if s.Errno == errWaitText {
				waited++
			}
		}
	}
	if waited != 1 {
		t.Errorf("%d tests waited for an answer", waited)
	}
	for id, status := range judgedStatus(f) {
		if overLoopback := strings.HasSuffix(id, "tcp") || id == "sendfile.udp"; overLoopback && status != UnknownFeature {
			t.Errorf("%s is %s", id, status)
		}
	}
}

// TestFunctestsLookFirst takes from the list of what is loaded what tests could
// make the kernel load, and watches that they do not ask for it.
func TestFunctestsLookFirst(t *testing.T) {
	absent := map[string]int{"XDP": sys.AFXDP, "PACKET": sys.AFPacket, "AF_VSOCK": sys.AFVsock, "TCPv6": sys.AFInet6, "UNIX": sys.AFUnix}
	h := readProcess(liveSources())
	h.Protocols = slices.DeleteFunc(h.Protocols, func(p string) bool { _, gone := absent[p]; return gone })
	h.Sysctls["net.ipv4.tcp_available_ulp"] = "mptcp"
	h.Ciphers = nil
	k := kernelCalls()
	asked := func(family int) {
		for name, f := range absent {
			if f == family {
				t.Errorf("asked for a socket of %s", name)
			}
		}
	}
	k.Socket = func(family, typ, protocol int) (int, error) {
		asked(family)
		return sys.Socket(family, typ, protocol)
	}
	k.Socketpair = func(family, typ int) ([2]int, error) {
		asked(family)
		return sys.Socketpair(family, typ)
	}
	k.SetBytes = func(fd, level, option int, value []byte) error {
		if level == sys.SolTCP && option == sys.TCPULP {
			t.Errorf("asked for the protocol %q", value)
		}
		return sys.SetsockoptBytes(fd, level, option, value)
	}
	f := &Facts{Host: h, Outcomes: runFunctests(t.Context(), k, &h, functests())}
	f.Host.Config = nil
	for _, c := range []struct {
		module, state string
		want          map[string]FeatureStatus
	}{
		{"tls", "available", map[string]FeatureStatus{"ktls.tx": Disabled, "ktls.tx_zerocopy_ro": UnknownFeature}},
		{"tls", "absent", map[string]FeatureStatus{"ktls.tx": Unsupported, "ktls.tx_zerocopy_ro": Unsupported}},
		{"ipv6", "available", map[string]FeatureStatus{"msg_zerocopy.tcp6": Disabled, "msg_zerocopy.udp6": Disabled, "msg_zerocopy.tcp4": Supported}},
		{"vsock", "unknown", map[string]FeatureStatus{"msg_zerocopy.vsock": UnknownFeature, "af_xdp": UnknownFeature, "packet_tx_ring": UnknownFeature, "sendfile.unix": UnknownFeature}},
	} {
		f.Host.Modules = map[string]string{c.module: c.state}
		got := judgedStatus(f)
		for id, want := range c.want {
			if got[id] != want {
				t.Errorf("module %s %s: %s is %s, want %s", c.module, c.state, id, got[id], want)
			}
		}
	}
}
