package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Every source, backend, protocol and size arrives whole, and both ends name its
// checksum and the way that was asked for.
func TestArrives(t *testing.T) {
	type way struct {
		kind    transmit.SourceKind
		backend transmit.Backend
	}
	ways := []way{
		{transmit.SourceFile, ""}, {transmit.SourceFile, transmit.Splice}, {transmit.SourceFile, transmit.ReadWrite},
		{transmit.SourceFile, transmit.Sendfile}, {transmit.SourceFile, transmit.MmapWrite}, {transmit.SourceFile, transmit.MmapZerocopy},
		{transmit.SourcePipe, ""}, {transmit.SourcePipe, transmit.Splice}, {transmit.SourcePipe, transmit.ReadWrite},
		{transmit.SourceMemory, ""}, {transmit.SourceMemory, transmit.Write}, {transmit.SourceMemory, transmit.MsgZerocopy},
		{transmit.SourceMemory, transmit.IoUringSend}, {transmit.SourceMemory, transmit.IoUringSendZC},
	}
	for _, network := range []string{"tcp", "tcp6", "unix"} {
		for _, w := range ways {
			if network == "unix" && w.backend.Notifies() {
				continue
			}
			for _, size := range []int{1, 4097, 64<<10 + 1, 3<<20 - 1} {
				t.Run(fmt.Sprintf("%s/%s/%s/%d", network, w.kind, w.backend, size), func(t *testing.T) {
					arrives(t, network, w.kind, w.backend, size)
				})
			}
		}
	}
}

func arrives(t *testing.T, network string, kind transmit.SourceKind, b transmit.Backend, size int) {
	out, name := output(t)
	a, done := receiveOn(t, RecvOptions{Listen: address(t, network)}, out)
	want := content(size)
	var s Source
	switch kind {
	case transmit.SourceFile:
		s = fileSource(t, file(t, want))
	case transmit.SourcePipe:
		s = pipeSource(t, want)
	default:
		s = MemorySource(int64(size), 1)
		fill(want, 0)
	}
	o := sendOptions(a, s)
	o.Backend = b
	r, err := Send(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	mustHave(t, name, want)
	for who, sum := range map[string]*string{"sender": r.SHA256, "receiver": got.r.SHA256} {
		switch {
		case who == "sender" && kind == transmit.SourcePipe && b == transmit.ReadWrite, sum != nil:
			if sum == nil || *sum != sumOf(want) {
				t.Errorf("checksum of the %s is %v", who, sum)
			}
		default:
			t.Errorf("no checksum of the %s: %s", who, r.Checksum)
		}
	}
	if !r.Complete || !got.r.Complete || r.SentBytes != int64(size) || got.r.ReceivedBytes != int64(size) || got.r.EndedBy != "end" {
		t.Errorf("sent %+v\nreceived %+v", r, got.r)
	}
	if r.AcknowledgedBytes == nil || *r.AcknowledgedBytes != int64(size) || r.AbandonedBytes != 0 {
		t.Errorf("acknowledged %v of %d, abandoned %d", r.AcknowledgedBytes, size, r.AbandonedBytes)
	}
	if b != "" && r.Backend != string(b) {
		t.Errorf("went by %q, asked for %s; downgrades %v", r.Backend, b, r.Downgrades)
	}
	if b.Notifies() && (r.Reported != "copied" || r.ZerocopySends == 0 || r.NotifiedSends != r.ZerocopySends) {
		t.Errorf("over loopback completions said %q: %d of %d", r.Reported, r.NotifiedSends, r.ZerocopySends)
	}
	if b == transmit.Splice && r.CopiedByCallsBytes != 0 {
		t.Errorf("splice copied %d bytes", r.CopiedByCallsBytes)
	}
}

func fileSource(t *testing.T, name string) Source {
	t.Helper()
	s, err := OpenSource(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// pipeSource writes to a pipe as a program would.
func pipeSource(t *testing.T, b []byte) Source {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.Write(b) // fails when the test does
		w.Close()
	}()
	t.Cleanup(func() { r.Close(); <-written })
	s, err := FileSource(r, "pipe", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An empty file is a stream of nothing, which is complete.
func TestNothing(t *testing.T) {
	out, name := output(t)
	a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp")}, out)
	r, err := Send(t.Context(), sendOptions(a, fileSource(t, file(t, nil))))
	if err != nil || !r.Complete || *r.SHA256 != sumOf(nil) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := <-done; got.err != nil || *got.r.SHA256 != sumOf(nil) {
		t.Errorf("%+v, %v", got.r, got.err)
	}
	mustHave(t, name, nil)
}

// Many sends from few buffers: each is used again, and none too early.
func TestMemoryIsUsedAgain(t *testing.T) {
	for _, b := range []transmit.Backend{transmit.Write, transmit.MsgZerocopy, transmit.IoUringSendZC} {
		t.Run(string(b), func(t *testing.T) {
			a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp")}, Discard())
			o := sendOptions(a, MemorySource(40_001, 200))
			o.Backend = b
			r, err := Send(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got := <-done
			if got.err != nil || r.SentBytes != 40_001*200 || *got.r.SHA256 != *r.SHA256 {
				t.Errorf("sent %+v\nreceived %+v, %v", r, got.r, got.err)
			}
		})
	}
}

// Bytes that nobody asks to be summed are neither read by the sender nor by the
// receiver.
func TestNoChecksum(t *testing.T) {
	for _, c := range []struct {
		network string
		keep    bool
		way     string
	}{
		{"tcp", true, "splice"}, {"unix", true, "splice"}, {"tcp", false, "discard"}, {"unix", false, "splice"},
	} {
		t.Run(fmt.Sprint(c.network, c.keep), func(t *testing.T) {
			out, name := Discard(), ""
			if c.keep {
				out, name = output(t)
			}
			a, done := receiveOn(t, RecvOptions{Listen: address(t, c.network), NoChecksum: true}, out)
			want := content(5 << 20)
			o := sendOptions(a, pipeSource(t, want))
			o.NoChecksum = true
			r, err := Send(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got := <-done
			if got.err != nil {
				t.Fatal(got.err)
			}
			if r.Backend != "splice" || r.CopiedByCallsBytes != 0 || r.SHA256 != nil {
				t.Errorf("sent %+v", r)
			}
			if got.r.Way != c.way || got.r.ReadBytes != 0 || got.r.ReceivedBytes != int64(len(want)) || got.r.SHA256 != nil {
				t.Errorf("received %+v", got.r)
			}
			if c.keep {
				mustHave(t, name, want)
			}
		})
	}
}

func TestRange(t *testing.T) {
	want := content(100_000)
	name := file(t, want)
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, 100_000}, {99_999, -1, 99_999, 100_000}, {100_000, -1, 100_000, 100_000}, {5, 70_000, 5, 70_005}, {0, 0, 0, 0},
	} {
		s, err := OpenSource(t.Context(), name, c.offset, c.length)
		if err != nil {
			t.Fatal(err)
		}
		out, to := output(t)
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "unix")}, out)
		r, err := Send(t.Context(), sendOptions(a, s))
		if err != nil || *r.SHA256 != sumOf(want[c.from:c.to]) {
			t.Errorf("%+v: %+v, %v", c, r, err)
		}
		<-done
		mustHave(t, to, want[c.from:c.to])
		s.Close()
	}
	for _, c := range []struct{ offset, length int64 }{{100_001, -1}, {1, 100_000}, {100_001, 0}} {
		if _, err := OpenSource(t.Context(), name, c.offset, c.length); err == nil {
			t.Errorf("%+v is taken for a range of 100000 bytes", c)
		}
	}
}

// A backend that cannot do it is refused, before a byte goes.
func TestRefusesBackend(t *testing.T) {
	for _, c := range []struct {
		network string
		b       transmit.Backend
		s       Source
	}{
		{"unix", transmit.MsgZerocopy, MemorySource(1000, 1)},
		{"tcp", transmit.Sendfile, MemorySource(1000, 1)},
		{"tcp", transmit.CopyFileRange, fileSource(t, file(t, content(10)))},
		{"tcp", transmit.Vmsplice, fileSource(t, file(t, content(10)))},
		{"tcp", transmit.Vmsplice, MemorySource(1000, 1)},
		{"unix", transmit.MmapZerocopy, fileSource(t, file(t, content(10)))},
		{"udp", transmit.Sendfile, fileSource(t, file(t, content(10)))},
		{"tcp", transmit.Sendfile, pipeSource(t, content(10))},
	} {
		a, done := receiveOn(t, RecvOptions{Listen: address(t, c.network)}, Discard())
		o := sendOptions(a, c.s)
		o.Backend = c.b
		r, err := Send(t.Context(), o)
		if _, ok := errors.AsType[*RefusedError](err); !ok || r.SentBytes != 0 {
			t.Errorf("%s from %s over %s: %v after %d bytes", c.b, c.s.Kind, c.network, err, r.SentBytes)
		}
		if c.network == "udp" {
			continue // which no connection ends
		}
		if got := <-done; got.r.ReceivedBytes != 0 {
			t.Errorf("%d bytes arrived", got.r.ReceivedBytes)
		}
	}
}

// stalled is a peer that takes the connection and reads nothing, until it is told
// to reset it.
func stalled(t *testing.T) (Address, func() *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			c <- conn
		}
	}()
	t.Cleanup(func() {
		l.Close()
		select {
		case conn := <-c:
			conn.Close()
		default:
		}
	})
	return Address{"tcp", l.Addr().String()}, func() *net.TCPConn { return (<-c).(*net.TCPConn) }
}

// ways that block in different places when the peer does not read.
func blockingSources(t *testing.T) map[string]SendOptions {
	big := file(t, content(64<<20))
	read, splice := sendOptions(Address{}, fileSource(t, big)), sendOptions(Address{}, fileSource(t, big))
	read.Backend, splice.Backend = transmit.ReadWrite, transmit.Splice
	auto, mapped := sendOptions(Address{}, fileSource(t, big)), sendOptions(Address{}, fileSource(t, big))
	mapped.Backend = transmit.MmapZerocopy
	zerocopy := sendOptions(Address{}, MemorySource(1<<20, 64))
	zerocopy.Backend = transmit.MsgZerocopy
	return map[string]SendOptions{
		"read_write": read, "splice": splice, "msg_zerocopy": zerocopy, "file": auto, "mmap_zerocopy": mapped,
		"write": sendOptions(Address{}, MemorySource(64<<20, 1)),
		"pipe":  sendOptions(Address{}, pipeSource(t, content(64<<20))),
	}
}

// A peer that resets in the middle: the error says how far it got, and nothing
// claims to be complete.
func TestReset(t *testing.T) {
	for name, o := range blockingSources(t) {
		t.Run(name, func(t *testing.T) {
			a, conn := stalled(t)
			o.To = a
			go func() {
				c := conn()
				io.CopyN(io.Discard, c, 300_000)
				c.SetLinger(0)
				c.Close()
			}()
			r, err := Send(t.Context(), o)
			b, ok := errors.AsType[*BrokenError](err)
			if !ok || b.Bytes < 300_000 || b.Bytes >= 64<<20 || b.Bytes != r.SentBytes {
				t.Fatalf("%v; sent %d", err, r.SentBytes)
			}
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, errPeerClosed) {
				t.Errorf("%v is no reset", err)
			}
			if r.Complete || r.SHA256 != nil {
				t.Errorf("%+v", r)
			}
		})
	}
}

// An interrupt ends a transfer that is stuck, and the peer is not told that the
// stream had ended.
func TestInterrupt(t *testing.T) {
	for name, o := range blockingSources(t) {
		t.Run(name, func(t *testing.T) {
			a, conn := stalled(t)
			o.To = a
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			end := make(chan error, 1)
			go func() {
				c := conn()
				io.CopyN(io.Discard, c, 1)
				time.Sleep(100 * time.Millisecond) // until it is stuck, most likely
				cancel()
				time.Sleep(100 * time.Millisecond)
				_, err := io.Copy(io.Discard, c)
				end <- err
			}()
			r, err := Send(ctx, o)
			if !errors.Is(err, context.Canceled) || r.SentBytes == 0 || r.SentBytes >= 64<<20 {
				t.Errorf("%v after %d bytes", err, r.SentBytes)
			}
			if err := <-end; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer got %v, and not a reset", err)
			}
		})
	}
}

// A peer whose kernel takes everything and who then never reads is waited for, but
// not for ever.
func TestUnacknowledged(t *testing.T) {
	a, conn := stalled(t)
	defer func() { conn().Close() }()
	o := sendOptions(a, MemorySource(1<<20, 1))
	o.Wait = 200 * time.Millisecond
	r, err := Send(t.Context(), o)
	u, ok := errors.AsType[*UnacknowledgedError](err)
	if !ok || u.Bytes == 0 || r.Complete || *r.AcknowledgedBytes+u.Bytes < r.SentBytes {
		t.Errorf("%v; %+v", err, r)
	}
}

// A file that is cut while it is sent ends with how far it got.
func TestTruncated(t *testing.T) {
	for _, b := range []transmit.Backend{"", transmit.Splice, transmit.ReadWrite, transmit.MmapWrite, transmit.MmapZerocopy} {
		t.Run(string(b), func(t *testing.T) {
			name := file(t, content(64<<20))
			a, conn := stalled(t)
			o := sendOptions(a, fileSource(t, name))
			o.Backend = b
			go func() {
				c := conn()
				io.CopyN(io.Discard, c, 300_000)
				os.Truncate(name, 32<<20)
				io.Copy(io.Discard, c)
				c.Close()
			}()
			r, err := Send(t.Context(), o)
			tr, ok := errors.AsType[*transmit.TruncatedError](err)
			if !ok || tr.Sent != 32<<20 || tr.Want != 64<<20 || r.Complete {
				t.Errorf("%v; sent %d", err, r.SentBytes)
			}
		})
	}
}

func TestSourceChanged(t *testing.T) {
	name := file(t, content(4<<20))
	a, conn := stalled(t)
	go func() {
		c := conn()
		io.CopyN(io.Discard, c, 1000)
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			f.WriteAt([]byte("other"), 100)
			f.Close()
		}
		io.Copy(io.Discard, c)
		c.Close()
	}()
	r, err := Send(t.Context(), sendOptions(a, fileSource(t, name)))
	if err != nil || !r.SourceChanged {
		t.Errorf("changed %v, %v", r.SourceChanged, err)
	}
}

// What cannot be a source says so before anyone is connected to.
func TestBadSources(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, dir + "/none"} {
		if _, err := OpenSource(t.Context(), name, 0, -1); err == nil {
			t.Errorf("%s is a source", name)
		} else if f, ok := errors.AsType[*FileError](err); !ok || f.Name != name {
			t.Errorf("%v", err)
		}
	}
	fifo := dir + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := OpenSource(ctx, fifo, 0, -1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a FIFO that nobody writes to: %v", err)
	}
	if w, err := os.OpenFile(fifo, os.O_RDWR, 0); err == nil {
		w.Close() // lets the open go that still waits
	}
}

// Files that the kernel makes up have no size, and contents.
func TestProcFile(t *testing.T) {
	want, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	out, name := output(t)
	a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp")}, out)
	r, err := Send(t.Context(), sendOptions(a, fileSource(t, "/proc/version")))
	if err != nil || r.SentBytes != int64(len(want)) {
		t.Errorf("%+v, %v", r, err)
	}
	<-done
	mustHave(t, name, want)
}

// A device is read until as much has come as was asked for.
func TestDevice(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		out, name := output(t)
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp")}, out)
		s, err := OpenSource(t.Context(), "/dev/zero", 0, 1<<20+1)
		if err != nil {
			t.Fatal(err)
		}
		o := sendOptions(a, s)
		o.NoChecksum = quiet
		r, err := Send(t.Context(), o)
		if err != nil || r.SentBytes != 1<<20+1 || quiet == (r.SHA256 != nil) {
			t.Errorf("%+v, %v", r, err)
		}
		<-done
		mustHave(t, name, make([]byte, 1<<20+1))
		s.Close()
	}
}

// Cutting a transfer up for progress changes nothing of it.
func TestProgress(t *testing.T) {
	want := content(10_000_000)
	for _, s := range []Source{fileSource(t, file(t, want)), pipeSource(t, want)} {
		for _, quiet := range []bool{false, true} {
			if quiet && s.Kind == transmit.SourcePipe {
				continue // it was emptied by the first turn
			}
			out, name := output(t)
			a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet, StepBytes: 1 << 20, Progress: func(Progress) {}}, out)
			o := sendOptions(a, s)
			var seen []int64
			o.NoChecksum, o.StepBytes, o.Progress = quiet, 1<<20, func(p Progress) { seen = append(seen, p.Bytes) }
			if _, err := Send(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			<-done
			mustHave(t, name, want)
			if !slices.IsSorted(seen) || len(seen) < 9 || seen[len(seen)-1] != int64(len(want)) {
				t.Errorf("progress %v", seen)
			}
		}
	}
}

// A peer that is not there is told apart from one that cannot be found.
func TestConnectErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := Address{"tcp", l.Addr().String()}
	l.Close()
	for _, c := range []struct {
		a       Address
		unknown bool
		is      error
	}{
		{closed, false, syscall.ECONNREFUSED},
		{Address{"unix", t.TempDir() + "/none"}, false, syscall.ENOENT},
		{Address{"tcp", "no-such-host.invalid:1"}, true, nil},
		{Address{"tcp", "127.0.0.1:no-such-service"}, true, nil},
	} {
		_, err := Send(t.Context(), sendOptions(c.a, MemorySource(1, 1)))
		e, ok := errors.AsType[*ConnectError](err)
		if !ok || e.Unknown != c.unknown || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.a, err)
		}
	}
}
