package transmit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

// Who does the work of a figure.
const (
	byLibrary = "library"
	byC       = "C"  // testdata/cref
	byGo      = "Go" // conn.Write, net.Buffers, io.CopyN
)

// A workload is what one process is asked to do: to send Total bytes over the
// connection that it is given as descriptor 3, in pieces of Size.
type workload struct {
	By      string
	Backend transmit.Backend // "" for the one that the library selects
	Source  string           // memory, file or tcp
	Size    int64            // bytes of a piece
	Pool    int64            // pieces are taken from so many bytes, in turn
	Total   int64
	File    string // of Source file
	// MapEach maps, faults in and unmaps each piece of the file, in the time
	// that is measured.
	MapEach bool
}

func (r run) sample() benchpair.Sample {
	return benchpair.Sample{
		Bytes:   r.Bytes,
		Elapsed: time.Duration(r.Seconds * float64(time.Second)),
		CPU:     time.Duration(r.CPUSeconds * float64(time.Second)),
	}
}

// A track is where the processes run: each alone on the first CPU, over a new
// connection to one sink, whose ACKs come from the last CPU. Its descriptor 4 is
// one end of a loopback connection that never runs dry, for Source tcp.
type track struct {
	sink *lab.Sink
	cref string
	file string // of coldPool bytes, in the page cache
}

// What a cold pool is: more than the caches hold, though not always more than the
// last level does.
const coldPool = 256 << 20

func newTrack(b *testing.B) *track {
	b.Helper()
	testenv.Root(b)
	if runtime.NumCPU() < 2 {
		b.Skip("needs two CPUs: one for the sender, one for the answers")
	}
	s, err := lab.NewSink(lab.Options{AckCPUs: []int{runtime.NumCPU() - 1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return &track{sink: s, cref: buildReference(b), file: newFile(b, coldPool)}
}

// newFile makes a file that is not the same everywhere and has nothing left to be
// written back.
func newFile(tb testing.TB, size int) string {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "source"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7 >> 3)
	}
	for range size / len(block) {
		if _, err := f.Write(block); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}

// command returns the process for a workload.
func (t *track) command(ctx context.Context, w workload) (*exec.Cmd, error) {
	if w.By == byC {
		return exec.CommandContext(ctx, t.cref, "-p", strconv.FormatInt(w.Pool, 10), "-f", t.file,
			string(w.Backend), strconv.FormatInt(w.Size, 10), strconv.FormatInt(w.Total, 10)), nil
	}
	w.File = t.file
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-test.run=^$", "-test.bench=^BenchmarkFigureProcess$", "-test.benchtime=1x")
	// With one P, which the runtime makes of one CPU, the runtime takes the P from
	// every system call of 20 microseconds, to give it to nobody (retake, in
	// runtime/proc.go). Programs on larger machines know nothing of that.
	cmd.Env = append(os.Environ(), workloadEnv+"="+string(text), "GOMAXPROCS=2")
	return cmd, nil
}

// run has a process do the workload, and looks at what arrived.
func (t *track) run(ctx context.Context, w workload) (r run, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c, err := t.dial(ctx)
	if err != nil {
		return r, err
	}
	// Only the process is to have the socket: the runtime of this one would be woken
	// by it, too.
	sock, err := c.File()
	c.Close()
	if err != nil {
		return r, err
	}
	defer sock.Close()
	cmd, err := t.command(ctx, w)
	if err != nil {
		return r, err
	}
	cmd.ExtraFiles = []*os.File{sock}
	if w.Source == "tcp" {
		source, err := newFeed(runtime.NumCPU() - 1)
		if err != nil {
			return r, err
		}
		defer source.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, source)
	}
	out, err := runOnCPU(cmd, 0)
	if err != nil {
		return r, err
	}
	_, line, _ := bytes.Cut(append([]byte("\n"), out...), []byte("\n{")) // after what a benchmark prints
	line, _, _ = bytes.Cut(line, []byte("\n"))
	if err := json.Unmarshal(append([]byte("{"), line...), &r); err != nil {
		return r, fmt.Errorf("%w in %q", err, out)
	}
	flow, err := t.sink.Flow(c)
	if err != nil {
		return r, err
	}
	if r.Bytes != w.Total || flow.Bytes != uint64(w.Total) {
		return r, fmt.Errorf("of %d bytes %d were sent and %d arrived", w.Total, r.Bytes, flow.Bytes)
	}
	if r.Copied > 0 {
		return r, fmt.Errorf("%d of %d zero-copy sends were copied", r.Copied, r.Completions)
	}
	return r, nil
}

// dial connects to the sink in the way that the C program does of itself: with
// cubic, and TCP_NODELAY not set. The congestion control of the machine may pace,
// and pacing that it has begun stays on when a connection is given another.
func (t *track) dial(ctx context.Context) (c *net.TCPConn, err error) {
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") }
		return errors.Join(raw.Control(control), err)
	}}
	err = t.sink.Do(func() error {
		conn, err := dialer.DialContext(ctx, "tcp4", netip.AddrPortFrom(t.sink.Addr4(), lab.Port).String())
		if err != nil {
			return err
		}
		c = conn.(*net.TCPConn)
		return c.SetNoDelay(false)
	})
	return c, err
}

// runOnCPU runs a command on one CPU alone and returns its standard output. It
// closes the files that the command is given.
func runOnCPU(cmd *exec.Cmd, cpu int) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The process inherits the CPUs of the thread that starts it, and dies
		// with it. The thread is not unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		err := sys.SetThreadCPUs(cpu)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		<-ended
	}()
	defer close(ended)
	err := <-started
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, &stdout, &stderr)
	}
	return stdout.Bytes(), nil
}

// newFeed returns one end of a loopback connection whose other end sends, on one
// CPU, until this one is closed.
func newFeed(cpu int) (*os.File, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	near, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		return nil, err
	}
	defer near.Close()
	far, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	go func() {
		defer far.Close()
		runtime.LockOSThread() // and not unlocked: the thread ends
		if sys.SetThreadCPUs(cpu) != nil {
			return // and the one who reads finds the end
		}
		block := make([]byte, 1<<20)
		for {
			if _, err := far.Write(block); err != nil {
				return
			}
		}
	}()
	return near.File()
}

// compare runs the same workload by each of those named, in turns, and returns
// the samples of each.
func (t *track) compare(b *testing.B, rounds int, w workload, by ...string) [][]benchpair.Sample {
	b.Helper()
	var ways []benchpair.Way
	for _, who := range by {
		w := w
		w.By = who
		ways = append(ways, func(ctx context.Context) (benchpair.Sample, error) {
			awaitQuiet(ctx)
			r, err := t.run(ctx, w)
			if err != nil {
				return benchpair.Sample{}, fmt.Errorf("%s: %w", who, err)
			}
			return r.sample(), nil
		})
	}
	samples, err := benchpair.Rounds(b.Context(), rounds, ways...)
	if err != nil {
		b.Fatal(err)
	}
	return samples
}

// awaitQuiet waits until the machine has nothing else to do, but not for long:
// what runs beside a figure costs it more than the time of the CPU.
func awaitQuiet(ctx context.Context) {
	const (
		look    = 50 * time.Millisecond
		longest = 500 * time.Millisecond
	)
	for end := time.Now().Add(longest); time.Now().Before(end) && ctx.Err() == nil; {
		before, ok := idleTime()
		start := time.Now()
		time.Sleep(look)
		after, _ := idleTime()
		if possible := time.Since(start) * time.Duration(runtime.NumCPU()); !ok || after-before > possible*3/4 {
			return
		}
	}
}

// idleTime returns how long the CPUs had nothing to do since the machine started.
func idleTime() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, false
	}
	var up, idle float64
	if _, err := fmt.Sscan(string(text), &up, &idle); err != nil {
		return 0, false
	}
	return time.Duration(idle * float64(time.Second)), true
}
