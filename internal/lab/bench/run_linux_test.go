package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

// hasty is for tests of what is measured, not of how well. A busy machine may take as
// long as it likes.
func hasty() *pace {
	return &pace{run: 200 * time.Microsecond, rounds: 6, passes: 2, refine: 6, extra: 1, all: 10 * time.Minute}
}

// In the laboratory every way works or says why not, and what was lent is not copied.
func TestRunInTheLaboratory(t *testing.T) {
	testenv.Root(t)
	r, err := Run(t.Context(), Options{Sizes: []int64{4 << 10, 256 << 10}, Dir: t.TempDir(), own: hasty()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Path != PathLab || r.Schema != Schema {
		t.Errorf("path %q, schema %q", r.Path, r.Schema)
	}
	for _, g := range (&Options{}).groups() {
		for _, b := range g.ways {
			if slices.ContainsFunc(r.Skipped, func(s Skipped) bool { return s.Backend == b }) {
				t.Logf("%s: %+v", b, r.Skipped)
				continue
			}
			for _, heat := range heats {
				for _, size := range []int64{4 << 10, 256 << 10} {
					checkResult(t, r, g, b, heat, size)
				}
			}
		}
	}
	if len(r.Crossovers) > 0 != r.Conclusive || r.Conclusion == "" {
		t.Errorf("conclusive %v with %d crossovers: %q", r.Conclusive, len(r.Crossovers), r.Conclusion)
	}
}

func checkResult(t *testing.T, r *Report, g group, b transmit.Backend, heat transmit.CacheState, size int64) {
	t.Helper()
	found := 0
	for _, x := range r.Results {
		if x.Backend != b || x.Source != g.source || x.To != g.to || x.Cache != heat || x.SizeBytes != size {
			continue
		}
		found++
		if x.Runs < leastRounds || x.CPUNSPerByte <= 0 || x.ThroughputBytesPerS <= 0 || x.CILow > x.CPUNSPerByte || x.CIHigh < x.CPUNSPerByte {
			t.Errorf("%+v", x)
		}
		// The calls that copy do, and nothing behind the others. Of many small sends some
		// are copied for want of option memory, when completions come late.
		if g.to == transmit.TCP && (b.Copies() || size > 64<<10) && b.Copies() != (x.CopiedFraction > 0.5) {
			t.Errorf("%s copied %.2f of the bytes", b, x.CopiedFraction)
		}
	}
	if found != 1 {
		t.Errorf("%d results of %s from %s to %s, %s, %d bytes", found, b, g.source, g.to, heat, size)
	}
}

// listen takes everything that comes to an address of this machine, and returns how
// much that was when the connection has ended.
func listen(t *testing.T, addr string) (string, <-chan int64) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int64, 1)
	go func() {
		defer close(got)
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), got
}

// Loopback is measured, over one connection that ends in order, and nothing is
// concluded from it.
func TestRunRefusesToConcludeFromLoopback(t *testing.T) {
	addr, got := listen(t, "127.0.0.1:0")
	r, err := Run(t.Context(), Options{To: "the peer", Address: addr, Dir: t.TempDir(), Sizes: []int64{4 << 10, 64 << 10},
		Backends: []transmit.Backend{transmit.MsgZerocopy, transmit.MmapZerocopy}, own: hasty()})
	if err != nil {
		t.Fatal(err)
	}
	if n := <-got; n < 6*(4<<10+64<<10)*2*2 {
		t.Errorf("%d bytes arrived", n)
	}
	if r.Path != "the peer" || r.Conclusive || len(r.Crossovers) > 0 || !strings.Contains(r.Conclusion, "this machine") {
		t.Errorf("%s: conclusive %v, %v, %q", r.Path, r.Conclusive, r.Crossovers, r.Conclusion)
	}
	if len(r.Results) != 2*2*(2+2) {
		t.Errorf("%d results", len(r.Results))
	}
	for _, x := range r.Results {
		if x.Backend == transmit.MsgZerocopy && x.CopiedFraction < 0.5 {
			t.Errorf("%.2f of what was lent over loopback was copied", x.CopiedFraction)
		}
	}
}

// A real path is that of a peer which addresses do not tell to be here: the sink, from
// inside the sender's namespace.
func TestRunToAPeer(t *testing.T) {
	testenv.Root(t)
	sink, err := lab.NewSink(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	addr := net.JoinHostPort(sink.Addr4().String(), "9")
	var r *Report
	if err := sink.Do(func() (err error) {
		r, err = run(t.Context(), Options{To: addr, Address: addr, Dir: t.TempDir(), Sizes: []int64{1 << 10, 1 << 20},
			Backends: []transmit.Backend{transmit.MsgZerocopy}, own: hasty()})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if r.Path != addr || !r.Conclusive || len(r.Crossovers) != 2 {
		t.Errorf("%s: conclusive %v, %+v", r.Path, r.Conclusive, r.Crossovers)
	}
	st, err := sink.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Opened != 1 {
		t.Errorf("%d connections", st.Opened)
	}
}

// What breaks ends the run with an error, and leaves nothing that waits.
func TestRunEnds(t *testing.T) {
	broken := errors.New("broken")
	t.Run("the context", func(t *testing.T) {
		addr, _ := listen(t, "127.0.0.1:0")
		ctx, cancel := context.WithCancelCause(t.Context())
		o := Options{To: addr, Address: addr, Dir: t.TempDir(), own: hasty(), Progress: func(what string) {
			if strings.Contains(what, "cold") {
				cancel(broken)
			}
		}}
		if r, err := Run(ctx, o); !errors.Is(err, broken) || r != nil {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		if r, err := Run(t.Context(), Options{To: addr, Address: addr, own: hasty()}); err == nil || r != nil {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("the peer", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, c, 1<<20)
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}()
		addr := l.Addr().String()
		if r, err := Run(t.Context(), Options{To: addr, Address: addr, Dir: t.TempDir(), own: hasty()}); err == nil || r != nil {
			t.Errorf("got %v, %v", r, err)
		}
	})
}

// Where no file can be made, or a disk is full, files are in memory, and it is said.
func TestFilesWithoutRoom(t *testing.T) {
	f, where, err := nameless("/nonexistent", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != 1<<20 || !strings.Contains(where, "memory") {
		t.Errorf("%q, %v, %v", where, st, err)
	}
}

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-2": {0, 1, 2}, "1,4-5,9": {1, 4, 5, 9}} {
		if got, err := parseCPUs(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"", "x", "3-1", "-1", "0-", "0-99999999"} {
		if got, err := parseCPUs(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}
