package ebpf_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
)

// TestSummaries reads a tracer again and again: each time it knows of all that was sent
// until then, and it stops when the context ends or the tracer is closed.
func TestSummaries(t *testing.T) {
	sink := newSink(t)
	tracer := open(t, ebpf.Options{})
	conn := dial(t, sink, "tcp4")
	inode := inodeOf(t, conn)
	const every, turns = 20 * time.Millisecond, 3
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wrote := uint64(0)
	write := func() {
		n, err := conn.Write(payload(100_000))
		if err != nil {
			t.Fatal(err)
		}
		wrote += uint64(n)
	}
	write()
	n := 0
	for s, err := range tracer.Summaries(ctx, every) {
		if err != nil {
			t.Fatal(err)
		}
		var bytes uint64
		for _, f := range s.Flows {
			if f.Inode == inode {
				bytes += f.Bytes
			}
		}
		if bytes != wrote {
			t.Errorf("summary %d: %d bytes of %d", n, bytes, wrote)
		}
		if n++; n == turns {
			cancel()
		} else {
			write()
		}
	}
	if n != turns {
		t.Errorf("%d summaries, and then it stopped", n)
	}
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	n = 0
	for _, err := range tracer.Summaries(t.Context(), every) {
		if n++; !errors.Is(err, ebpf.ErrClosed) {
			t.Errorf("of a closed tracer: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("a closed tracer said %d times that it is", n)
	}
}
