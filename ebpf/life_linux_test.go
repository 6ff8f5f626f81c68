package ebpf_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// childEnv makes the test binary another program: a tracer that is killed, or a
// sender that ends.
const childEnv = "ZCPROBE_EBPF_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		status := m.Run()
		os.Exit(max(status, closeShared()))
	case "tracer":
		child(func() error {
			_, err := ebpf.Open(context.Background(), ebpf.Options{})
			return err
		})
	case "probe":
		if err := sayProbe(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "sender":
		c, err := net.FileConn(os.NewFile(3, "socket"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		child(func() error {
			_, err := c.Write(payload(100_000))
			return err
		})
	case "reset":
		child(func() error { return sendToReset(os.Getenv(peerEnv)) })
	}
}

// child does something when it is told to, says so, and waits to be killed.
func child(fn func() error) {
	os.Stdin.Read(make([]byte, 1))
	if err := fn(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
	time.Sleep(time.Minute)
}

// startChild starts this binary as a child, and returns what tells it to act,
// waits until it has, and kills it.
func startChild(t *testing.T, role string, file *os.File) (pid int, act, kill func()) {
	t.Helper()
	cmd := command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	act = func() {
		if _, err := in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 200)
		if n, _ := out.Read(line); !bytes.HasPrefix(line[:n], []byte("done")) {
			t.Fatalf("child: %s", line[:n])
		}
	}
	kill = func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	return cmd.Process.Pid, act, kill
}

// programs returns the programs with names of ours, by bpftool.
func programs(t *testing.T) map[int]string {
	t.Helper()
	out, err := command(testenv.Tool(t, "bpftool"), "-j", "prog", "show").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		ID   int
		Name string
	}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, p := range all {
		// Older versions of bpftool cut names off.
		if strings.HasPrefix(p.Name, "net_dev_queue") || strings.HasPrefix(p.Name, "tcp_sendmsg_loc") {
			found[p.ID] = p.Name
		}
	}
	return found
}

// TestKilledTracer leaves nothing. Other tracers may come and go meanwhile.
func TestKilledTracer(t *testing.T) {
	testenv.Root(t)
	pid, act, kill := startChild(t, "tracer", nil)
	act()
	made := programs(t)
	ours := held(t, pid, "prog_id:")
	maps.DeleteFunc(made, func(id int, _ string) bool { return !slices.Contains(ours, strconv.Itoa(id)) })
	if len(made) < 2 {
		t.Errorf("its programs are %v", made)
	}
	kill()
	gone(t, made)
}

// gone waits for the kernel to free programs.
func gone(t *testing.T, made map[int]string) {
	t.Helper()
	var left map[int]string
	for range 100 {
		left = programs(t)
		maps.DeleteFunc(left, func(id int, _ string) bool { return made[id] == "" })
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("programs left: %v", left)
}

// held returns what a process holds of BPF: the values of a line of fdinfo.
func held(t *testing.T, pid int, line string) (values []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(dir + "/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		if _, rest, ok := strings.Cut(string(b), line); ok {
			value, _, _ := strings.Cut(rest, "\n")
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// TestTargetEnds keeps what a process sent that is gone, on a socket that this
// process made.
func TestTargetEnds(t *testing.T) {
	sink := newSink(t)
	c := dial(t, sink, "tcp4")
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid, act, kill := startChild(t, "sender", f)
	tracer := open(t, ebpf.Options{Processes: []int{pid}})
	act()
	sent(t, c)
	kill()
	flows, _ := flowsOf(t, tracer, inodeOf(t, c))
	if len(flows) != 1 || flows[0].PID != pid || flows[0].Bytes != 100_000 || flows[0].CopiedBytes != 100_000 {
		t.Errorf("of process %d: %+v", pid, flows)
	}
	// This process is not looked at.
	other := dial(t, sink, "tcp4")
	if _, err := other.Write(payload(1000)); err != nil {
		t.Fatal(err)
	}
	if flows, _ := flowsOf(t, tracer, inodeOf(t, other)); len(flows) != 0 {
		t.Errorf("of others: %+v", flows)
	}
}

// TestTwoTracers see the same.
func TestTwoTracers(t *testing.T) {
	sink := newSink(t)
	one, two := open(t, ebpf.Options{}), open(t, ebpf.Options{})
	c := dial(t, sink, "tcp4")
	control(t, c, func(fd int) error { return sendZeroCopy(fd, payload(1<<20), 64<<10) })
	sent(t, c)
	for _, tracer := range []*ebpf.Tracer{one, two} {
		truth{}.check(t, tracer, inodeOf(t, c), "msg_zerocopy", 1<<20)
	}
}

// TestFull says what it had no room for.
func TestFull(t *testing.T) {
	sink := newSink(t)
	tracer := open(t, ebpf.Options{Sockets: 4})
	var inode uint64
	for range 10 {
		c := dial(t, sink, "tcp4")
		if _, err := c.Write(payload(1000)); err != nil {
			t.Fatal(err)
		}
		inode = inodeOf(t, c)
	}
	_, s := flowsOf(t, tracer, inode)
	if len(s.Flows) != 4 || s.LostEvents == 0 {
		t.Errorf("%d flows, lost %d: %v", len(s.Flows), s.LostEvents, s.Incomplete)
	}
}

// TestShortConnections counts each of many, from several threads.
func TestShortConnections(t *testing.T) {
	testenv.Root(t)
	ns := testenv.NewNetNS(t)
	tracer := open(t, ebpf.Options{})
	const threads, each = 4, 5000
	var all sync.WaitGroup
	for i := range threads {
		all.Go(func() {
			ns.Do(func() {
				l, err := net.Listen("tcp4", "127.0.0.1:0")
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
				for j := range each {
					if err := short(l, payload(1000+i*each+j)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		})
	}
	all.Wait()
	_, s := flowsOf(t, tracer, 0)
	var bytes, copied uint64
	for _, f := range s.Flows {
		bytes += f.Bytes
		copied += f.CopiedBytes
	}
	const n = threads * each
	if want := uint64(n*1000 + n*(n-1)/2); len(s.Flows) != n || bytes != want || copied != want || s.LostEvents != 0 {
		t.Errorf("%d flows of %d bytes, %d copied; %d of %d sent; lost %d: %v", len(s.Flows), bytes, copied, n, want, s.LostEvents, s.Incomplete)
	}
}

// short makes a connection, sends by it, and ends it.
func short(l net.Listener, data []byte) error {
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	peer, err := l.Accept()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	_, err = c.Write(data)
	err = errors.Join(err, c.Close())
	_, copyErr := io.Copy(io.Discard, struct{ io.Reader }{peer})
	return errors.Join(err, copyErr, peer.Close())
}

// TestLoss counts what has to be sent again once. What the receiver's side drops
// was neither copied nor not.
func TestLoss(t *testing.T) {
	w := newWire(t, false)
	drop(t, w.b, "vb")
	tracer := open(t, ebpf.Options{})
	const total = 4 << 20
	for _, api := range []string{"write", "sendfile", "msg_zerocopy"} {
		t.Run(api, func(t *testing.T) {
			c, got := w.connect(t, "10.1.0.2")
			inode := inodeOf(t, c)
			control(t, c, func(fd int) error { return wayOf(api).send(fd, payload(total), 64<<10) })
			sent(t, c)
			c.Close()
			if n := <-got; n != total {
				t.Errorf("%d bytes arrived", n)
			}
			flows, _ := flowsOf(t, tracer, inode)
			if len(flows) != 1 {
				t.Fatalf("%+v", flows)
			}
			f := flows[0]
			known := map[string]uint64{"write": f.CopiedBytes, "sendfile": f.ZeroCopiedBytes, "msg_zerocopy": f.CopiedBytes + f.UnknownBytes}[api]
			if f.Bytes != total || known != total || f.RetransmittedData == 0 || f.UnknownBytes > total/2 {
				t.Errorf("%+v\n%s", f, tracer.Counts(inode))
			}
		})
	}
}

func TestClosed(t *testing.T) {
	tracer := open(t, ebpf.Options{})
	for _, h := range tracer.Hooks() {
		t.Logf("%-24s attached %v, %v", h.Name, h.Attached, h.Err)
	}
	if err := errors.Join(tracer.Close(), tracer.Close()); err != nil {
		t.Error(err)
	}
	if _, err := tracer.Summary(); !errors.Is(err, ebpf.ErrClosed) {
		t.Errorf("summary of a closed tracer: %v", err)
	}
	if _, err := ebpf.Open(t.Context(), ebpf.Options{Tier: "sight"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a tier that there is not: %v", err)
	}
}

// TestSoon is not about how long it takes, which it shows.
func TestSoon(t *testing.T) {
	sink := newSink(t)
	c := dial(t, sink, "tcp4")
	start := time.Now()
	tracer := open(t, ebpf.Options{})
	opened := time.Since(start)
	if _, err := c.Write(payload(1000)); err != nil {
		t.Fatal(err)
	}
	s, err := tracer.Summary()
	if err != nil || len(s.Flows) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	t.Log("opened after " + opened.String() + ", first data after " + time.Since(start).String() + ", " + strconv.Itoa(int(s.Flows[0].Bytes)) + " bytes")
}
