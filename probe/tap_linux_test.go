package probe

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// tapsIn reads the taps as seen from a namespace. On failure it reports with
// t.Error, since it may be called where t.Fatal may not.
func tapsIn(t *testing.T, ns *testenv.NetNS) TapFacts {
	t.Helper()
	before := openDescriptors(t)
	var f TapFacts
	var err error
	ns.Do(func() {
		err = onProbeThread(t.Context(), func() error {
			s := liveSources()
			f = readTaps(t.Context(), s, findNamespaces(s))
			return nil
		})
	})
	if err != nil {
		t.Errorf("readTaps: %v", err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("descriptors before %d, after %d", before, after)
	}
	return f
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	return len(d)
}

func ownTaps(f TapFacts) []TapFact {
	return slices.DeleteFunc(slices.Clone(f.Taps), func(t TapFact) bool { return t.Net != "" })
}

// packetSocket opens a packet socket in a namespace, to be closed with the test.
type packetSocket struct {
	typ      int
	protocol uint16
	device   string
	ring     bool
	ignore   bool
	fanout   int // value of PACKET_FANOUT, 0 for no group
}

func (p packetSocket) open(t *testing.T, ns *testenv.NetNS) {
	t.Helper()
	ns.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, p.typ|unix.SOCK_CLOEXEC, int(networkOrder(p.protocol)))
		if err != nil {
			t.Errorf("socket: %v", err)
			return
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := p.set(t, ns, fd); err != nil {
			t.Error(err)
		}
	})
}

func (p packetSocket) set(t *testing.T, ns *testenv.NetNS, fd int) error {
	if p.ignore {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err)
		}
	}
	if p.ring {
		req := unix.TpacketReq{Block_size: 4096, Block_nr: 1, Frame_size: 2048, Frame_nr: 2}
		if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
			return fmt.Errorf("PACKET_RX_RING: %w", err)
		}
	}
	if p.device != "" {
		r, err := unix.NewIfreq(p.device)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
			return fmt.Errorf("index of %s: %w", p.device, err)
		}
		sa := &unix.SockaddrLinklayer{Protocol: networkOrder(p.protocol), Ifindex: int(r.Uint32())}
		if err := unix.Bind(fd, sa); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	if p.fanout != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, p.fanout); err != nil {
			return fmt.Errorf("PACKET_FANOUT %#x: %w", p.fanout, err)
		}
	}
	return nil
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

func TestTapsOwnSockets(t *testing.T) {
	for _, c := range []struct {
		name   string
		open   []packetSocket
		copies []string // per tap "device/protocol/copies"
	}{
		{"none", nil, nil},
		{"any device", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3}}, []string{"/3/true"}},
		{"cooked, one device", []packetSocket{{typ: unix.SOCK_DGRAM, protocol: 3, device: "v0"}}, []string{"v0/3/true"}},
		{"ring", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3, device: "lo", ring: true}}, []string{"lo/3/true"}},
		{"ignores outgoing", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3, device: "v0", ignore: true}}, []string{"v0/3/false"}},
		{"one protocol", []packetSocket{{typ: unix.SOCK_RAW, protocol: 0x88cc, device: "v0"}}, []string{"v0/35020/false"}},
		{"transmits only", []packetSocket{{typ: unix.SOCK_RAW}}, []string{"/0/false"}},
		{"two at once", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3}, {typ: unix.SOCK_RAW, protocol: 3, ignore: true}},
			[]string{"/3/false", "/3/true"}},
		{"fanout: the group decides, not the member", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3, ignore: true, fanout: 7},
			{typ: unix.SOCK_RAW, protocol: 3, fanout: 7}}, []string{"/3/true", "/3/true"}},
		{"fanout that ignores outgoing", []packetSocket{{typ: unix.SOCK_RAW, protocol: 3, device: "v0", fanout: 0x4000<<16 | 8}},
			[]string{"v0/3/false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := testenv.NewNetNS(t)
			ns.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
			ns.Run("ip", "link", "set", "v0", "up")
			for _, p := range c.open {
				p.open(t, ns)
			}
			f := tapsIn(t, ns)
			if !f.Complete || len(f.Errors) > 0 {
				t.Errorf("complete %v, errors %q", f.Complete, f.Errors)
			}
			var got []string
			for _, r := range judgeTaps(&Facts{Taps: f}) {
				if r.NetNS != "" {
					continue
				}
				got = append(got, fmt.Sprintf("%s/%d/%s", r.Device, r.Protocol, showBool(r.CopiesOutgoing)))
				if r.PID != os.Getpid() || !strings.HasPrefix(r.Comm, "probe") {
					t.Errorf("owner is %d %q, want this process, %d", r.PID, r.Comm, os.Getpid())
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.copies) {
				t.Errorf("taps %q, want %q", got, c.copies)
			}
			compareWithSS(t, ns, ownTaps(f))
		})
	}
}

var ssPacket = regexp.MustCompile(`^p_\w+\s+\S+\s+\S+\s+(\S+):(\S+)\s.*ino:(\d+)`)

// compareWithSS checks protocol, device and inode against ss(8).
func compareWithSS(t *testing.T, ns *testenv.NetNS, taps []TapFact) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(ns.Run("ss", "-0", "-n", "-e", "-H")) {
		if m := ssPacket.FindStringSubmatch(line); m != nil {
			want[strings.Join(m[1:], " ")] = true
		} else if line[0] != '\t' {
			t.Errorf("cannot read ss line %q", line)
		}
	}
	for _, tap := range taps {
		proto := fmt.Sprintf("[%d]", tap.Protocol)
		if tap.Protocol == ethPAll {
			proto = "*"
		}
		got[fmt.Sprintf("%s %s %d", proto, cmp.Or(tap.Device, "*"), tap.Inode)] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("taps %v, ss says %v", got, want)
	}
}

func TestTapOfAnotherProcess(t *testing.T) {
	ns := testenv.NewNetNS(t)
	pid := startCapture(t, ns, testenv.Tool(t, "tcpdump"), "lo")
	taps := ownTaps(tapsIn(t, ns))
	if len(taps) != 1 || taps[0].PID != pid || taps[0].Comm != "tcpdump" || taps[0].Device != "lo" ||
		!sameBool(taps[0].IgnoreOutgoing, new(false)) {
		t.Errorf("taps %+v, want tcpdump with pid %d on lo", taps, pid)
	}
	compareWithSS(t, ns, taps)
}

func TestTapsHostileNames(t *testing.T) {
	ns := testenv.NewNetNS(t)
	const device = "a\x1b[2J\u2003b\u0085" // spaces of Unicode, none of the kernel
	ns.Run("ip", "link", "add", device, "type", "veth", "peer", "name", "v1")
	ns.Run("ip", "link", "set", device, "up")
	const comm = "x y\n\x1b[31m)"
	path := filepath.Join(t.TempDir(), comm)
	copyProgram(t, testenv.Tool(t, "tcpdump"), path)
	pid := startCapture(t, ns, path, device)
	f := tapsIn(t, ns)
	taps := ownTaps(f)
	if !f.Complete || len(taps) != 1 || taps[0].PID != pid || taps[0].Comm != comm || taps[0].Device != device {
		t.Errorf("taps %+v, errors %q; want %q with pid %d on %q", taps, f.Errors, comm, pid, device)
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A tap is another namespace's, and the process in it is found without
// entering it.
func TestTapsOfOtherNamespaces(t *testing.T) {
	ours, theirs := testenv.NewNetNS(t), testenv.NewNetNS(t)
	pid := startCapture(t, theirs, testenv.Tool(t, "tcpdump"), "any")
	packetSocket{typ: unix.SOCK_RAW, protocol: 3, device: "lo"}.open(t, theirs)
	f := tapsIn(t, ours)
	if !f.Complete || f.NamespacesSeen < 3 || len(ownTaps(f)) != 0 {
		t.Errorf("complete %v, %d namespaces, own taps %+v, errors %q", f.Complete, f.NamespacesSeen, ownTaps(f), f.Errors)
	}
	if f.GlobalList == nil || f.GlobalListSource == "" {
		t.Errorf("global list unknown: %q, errors %q", f.GlobalListSource, f.Errors)
	}
	var any, one *TapFact
	for i := range f.Taps {
		switch tap := &f.Taps[i]; {
		case tap.PID == pid:
			any = tap
		case tap.PID == os.Getpid() && tap.Device == "lo":
			one = tap
		}
	}
	if any == nil || !any.anyDevice() || any.Comm != "tcpdump" || !sameBool(any.IgnoreOutgoing, new(false)) {
		t.Errorf("capture on any device: %+v, all %+v", any, f.Taps)
	}
	if one == nil || any == nil || one.Net != any.Net || one.Net == "" {
		t.Errorf("socket bound to lo: %+v, want it in the namespace of %+v", one, any)
	}
}

// startCapture runs tcpdump in a namespace until the test ends, and returns
// its process id once it captures.
func startCapture(t *testing.T, ns *testenv.NetNS, path, device string, args ...string) int {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(path, append([]string{"-n", "-i", device, "-w", "/dev/null"}, args...)...)
	cmd.Stderr = &errs
	var err error
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 100 {
		packets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", cmd.Process.Pid))
		if err == nil && regexp.MustCompile(`(?m)^\S+\s+\d+\s+\d+\s+0003\s+\d+\s+1 `).Match(packets) {
			return cmd.Process.Pid
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("tcpdump does not capture: %s", errs.String())
	return 0
}

func childTaps(t *testing.T, _ json.RawMessage) any {
	s := liveSources()
	var f TapFacts
	err := onProbeThread(t.Context(), func() error {
		f = readTaps(t.Context(), s, findNamespaces(s))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return f
}

// An ordinary user sees the sockets, of other namespaces too, but neither their
// owners nor their option.
func TestTapsUnprivileged(t *testing.T) {
	ours, theirs := testenv.NewNetNS(t), testenv.NewNetNS(t)
	startCapture(t, ours, testenv.Tool(t, "tcpdump"), "lo")
	startCapture(t, theirs, testenv.Tool(t, "tcpdump"), "any")
	var f TapFacts
	runChild(t, ours, "taps", nil, &f, asNobody)
	own := ownTaps(f)
	if !f.Complete || len(own) != 1 || own[0].Device != "lo" || own[0].PID != 0 || own[0].IgnoreOutgoing != nil {
		t.Errorf("complete %v, own taps %+v, errors %q", f.Complete, own, f.Errors)
	}
	if got, why, _ := tapEffect(&Facts{Taps: f}, "", "lo"); got != nil {
		t.Errorf("lo copies %s (%s), want unknown", showBool(got), why)
	}
	if got, why, _ := tapEffect(&Facts{Taps: f}, "", "eth0"); f.GlobalList != nil && !*f.GlobalList && (got == nil || *got) {
		t.Errorf("eth0 copies %s (%s), want false where lists are per namespace", showBool(got), why)
	}
	elsewhere := slices.ContainsFunc(f.Taps, func(t TapFact) bool {
		return t.Net != "" && t.anyDevice() && t.Protocol == ethPAll && t.PID == 0
	})
	if !elsewhere {
		t.Errorf("the capture of the other namespace was not seen: %+v, errors %q", f.Taps, f.Errors)
	}
}

// In a PID namespace of its own, a process cannot know what it does not see.
func TestTapsHiddenNamespaces(t *testing.T) {
	ns := testenv.NewNetNS(t)
	var f TapFacts
	runChild(t, ns, "taps", nil, &f, func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID })
	if !f.Complete || !slices.Contains(f.Hidden, "?") || f.NamespacesHidden == 0 || f.GlobalList == nil {
		t.Errorf("facts %+v", f)
	}
	got, why, _ := tapEffect(&Facts{Taps: f}, "", "lo")
	if want := new(false); f.GlobalList != nil && !*f.GlobalList && !sameBool(got, want) || f.GlobalList != nil && *f.GlobalList && got != nil {
		t.Errorf("copies %s (%s), global list %s", showBool(got), why, showBool(f.GlobalList))
	}
}

// TestTapsShared: the kernel's type information is there or not, and says the same
// without a packet socket as with one.
func TestTapsShared(t *testing.T) {
	shared, source := TapsShared()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		if shared != nil || source == "" {
			t.Errorf("%v by %q, without type information", shared, source)
		}
		return
	}
	if shared == nil || source == "" {
		t.Fatalf("%v by %q", shared, source)
	}
}
