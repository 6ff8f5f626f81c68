package transmit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func bodyBytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// soon is a context for what must not have to wait.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestBodyReads(t *testing.T) {
	want := bodyBytes(70_000)
	b := NewBody(want)
	r := b.NewReader()
	if err := iotest.TestReader(r, want); err != nil {
		t.Error(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(b, 100, 5000), want[100:5100]); err != nil {
		t.Error(err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("it can be before its start")
	}
	if _, err := r.Seek(0, 7); err == nil {
		t.Error("it seeks in unknown ways")
	}
	if n, err := r.Seek(1<<40, io.SeekStart); n != 1<<40 || err != nil || r.Len() != 0 {
		t.Errorf("beyond its end: %d, %v, %d left", n, err, r.Len())
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read beyond the end: %d, %v", n, err)
	}
	if n, err := io.Copy(new(bytes.Buffer), r); n != 0 || err != nil {
		t.Errorf("copied %d, %v beyond the end", n, err)
	}
	for _, to := range []io.Writer{new(bytes.Buffer), new(strings.Builder), naive{new(bytes.Buffer)}} {
		if _, err := r.Seek(69_000, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(to, r)
		if n != 1000 || err != nil || to.(interface{ String() string }).String() != string(want[69_000:]) || r.Len() != 0 {
			t.Errorf("%T: %d, %v, %d left", to, n, err, r.Len())
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// naive reads by copying to itself, as some writers of the world do.
type naive struct{ *bytes.Buffer }

func (w naive) ReadFrom(r io.Reader) (int64, error) { return io.Copy(w, r) }

func TestBodyShortWriter(t *testing.T) {
	r := NewBody(bodyBytes(10)).NewReader()
	for want, w := range map[error]io.Writer{io.ErrShortWrite: limited(3), io.ErrClosedPipe: failing(3)} {
		_, _ = r.Seek(0, io.SeekStart)
		if n, err := r.WriteTo(w); n != 3 || !errors.Is(err, want) || r.Len() != 7 {
			t.Errorf("%d, %v, %d left", n, err, r.Len())
		}
	}
	if n, err := r.WriteTo(limited(99)); n != 0 || err == nil {
		t.Errorf("believed a writer that took more than there is: %d, %v", n, err)
	}
}

type limited int

func (n limited) Write([]byte) (int, error) { return int(n), nil }

type failing int

func (n failing) Write([]byte) (int, error) { return int(n), io.ErrClosedPipe }

func TestBodyReleaseWaits(t *testing.T) {
	b := NewBody(bodyBytes(10))
	r := b.NewReader()
	if err := b.Release(soon(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("released with a reader: %v", err)
	}
	late := b.NewReader()
	for _, err := range []error{seekError(late), readError(late), b.NewReader().Close()} {
		if err != nil != errors.Is(err, errBodyReleased) {
			t.Errorf("a reader that came too late: %v", err)
		}
	}
	if err := readError(late); err == nil {
		t.Error("a reader that came too late reads")
	}
	got, err := io.ReadAll(r) // who was in time reads to the end
	if !bytes.Equal(got, bodyBytes(10)) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := b.lend(); err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), r.Close()
	if err := readError(r); !errors.Is(err, errReaderClosed) {
		t.Errorf("a closed reader: %v", err)
	}
	if err := b.Release(soon(t)); err == nil {
		t.Error("released while the kernel has it")
	}
	b.returned(false)
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.lend(); !errors.Is(err, errBodyReleased) {
		t.Errorf("lent after its release: %v", err)
	}
	if _, err := b.ReadAt(make([]byte, 1), 0); !errors.Is(err, errBodyReleased) {
		t.Errorf("read after its release: %v", err)
	}
}

func seekError(r *BodyReader) error { _, err := r.Seek(0, io.SeekStart); return err }

func readError(r *BodyReader) error { _, err := r.Read(make([]byte, 1)); return err }

func TestBodyAbandoned(t *testing.T) {
	b := NewBody(bodyBytes(10))
	if _, err := b.lend(); err != nil {
		t.Fatal(err)
	}
	b.returned(true)
	if err := b.Release(t.Context()); !errors.Is(err, ErrAbandoned) {
		t.Errorf("released what the kernel may read: %v", err)
	}
}

// TestBodyOfManyRequests has many goroutines read, lend and close, while it is
// released.
func TestBodyOfManyRequests(t *testing.T) {
	want := bodyBytes(5000)
	p := bytes.Clone(want)
	b := NewBody(p)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 20 {
				r := b.NewReader()
				got := make([]byte, 10)
				n, err := r.ReadAt(got, int64(i))
				if err == nil && (n != 10 || !bytes.Equal(got, want[i:i+10])) {
					t.Error("wrong bytes")
				}
				if q, err := b.lend(); err == nil {
					if !bytes.Equal(q[i:i+10], want[i:i+10]) {
						t.Error("the kernel would have sent wrong bytes")
					}
					b.returned(false)
				}
				_ = r.Close()
			}
		})
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	clear(p) // a reader that there is still shows it, and the race detector too
	all.Wait()
}
