package transmit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// workloadEnv holds, as JSON, the workload of a process that
// BenchmarkFigureProcess is to be.
const workloadEnv = "ZCPROBE_FIGURE_WORKLOAD"

// BenchmarkFigureProcess is what testdata/cref is, in Go: a process that does one
// workload and prints a line about it. The figures start it.
func BenchmarkFigureProcess(b *testing.B) {
	text := os.Getenv(workloadEnv)
	if text == "" {
		b.Skip("needs a workload: BenchmarkFigures gives one to a process of its own")
	}
	var w workload
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		b.Fatal(err)
	}
	r, err := w.do(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	line, err := json.Marshal(r)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\n%s\n", line)
	os.Exit(0)
}

// A mover is a way to move one piece: n bytes at offset at of the pool.
type mover struct {
	piece func(at, n int64) error
	// finish returns when the memory of all pieces is ours again, and how many
	// zero-copy sends there were and were copied.
	finish func() (completions, copied int64, err error)
}

func (w workload) do(ctx context.Context) (r run, err error) {
	p, err := w.open()
	if err != nil {
		return r, err
	}
	var m mover
	if w.By == byLibrary {
		m, err = libraryMover(ctx, w, p)
	} else {
		m, err = goMover(w, p)
	}
	if err != nil {
		return r, err
	}
	r = run{Backend: w.Backend, Size: w.Size}
	s, err := benchpair.Measure(benchpair.Process, func() (int64, error) {
		pool := w.Pool - w.Pool%w.Size
		for at := int64(0); r.Bytes < w.Total; at = (at + w.Size) % pool {
			n := min(w.Size, w.Total-r.Bytes)
			if err := m.piece(at, n); err != nil {
				return 0, fmt.Errorf("after %d bytes: %w", r.Bytes, err)
			}
			r.Bytes += n
		}
		if err := awaitAcknowledgement(p.conn); err != nil {
			return 0, err
		}
		var err error
		r.Completions, r.Copied, err = m.finish()
		return r.Bytes, err
	})
	r.Seconds, r.CPUSeconds = s.Elapsed.Seconds(), s.CPU.Seconds()
	return r, err
}

// props are what a workload is done with.
type props struct {
	conn   *net.TCPConn // where to
	source *net.TCPConn // of Source tcp
	file   *os.File     // of Source file
	memory []byte       // of Source memory
}

func (w workload) open() (p props, err error) {
	if p.conn, err = inherited(3); err != nil {
		return p, err
	}
	switch w.Source {
	case "memory":
		p.memory, err = anonymous(int(max(w.Pool, w.Size)))
	case "file":
		if p.file, err = os.Open(w.File); err == nil {
			_, err = io.CopyN(io.Discard, p.file, w.Pool) // into the page cache
		}
	case "tcp":
		p.source, err = inherited(4)
	default:
		err = fmt.Errorf("no source is called %q", w.Source)
	}
	return p, err
}

// inherited returns a connection that the process was started with.
func inherited(fd uintptr) (*net.TCPConn, error) {
	f := os.NewFile(fd, "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("descriptor %d is a %T", fd, c)
	}
	return t, t.SetNoDelay(false) // package net has set it
}

// anonymous returns memory such as the C program takes: in small pages, all of
// them touched.
func anonymous(n int) ([]byte, error) {
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if err := unix.Madvise(m, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, os.NewSyscallError("madvise", err)
	}
	for i := range m {
		m[i] = byte(i)
	}
	return m, nil
}

// awaitAcknowledgement does what that of the C program does.
func awaitAcknowledgement(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	for {
		left := 0
		if cerr := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); cerr != nil {
			return cerr
		}
		if err != nil {
			return os.NewSyscallError("SIOCOUTQ", err)
		}
		if left == 0 {
			return nil
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// parts is in how many parts a piece is sent by writev, here and in the C program.
const parts = 4

func inParts(dst [][]byte, p []byte) [][]byte {
	each := len(p) / parts
	for range parts - 1 {
		dst = append(dst, p[:each])
		p = p[each:]
	}
	return append(dst, p)
}

// goMover moves as programs do that know nothing but the standard library.
func goMover(w workload, p props) (mover, error) {
	m := mover{finish: func() (int64, int64, error) { return 0, 0, nil }}
	switch {
	case w.Source == "memory" && w.Backend == transmit.Writev:
		var buffers net.Buffers
		m.piece = func(at, n int64) error {
			buffers = inParts(buffers[:0], p.memory[at:at+n])
			rest := buffers // WriteTo consumes it
			_, err := rest.WriteTo(p.conn)
			return err
		}
	case w.Source == "memory":
		m.piece = func(at, n int64) error {
			_, err := p.conn.Write(p.memory[at : at+n])
			return err
		}
	case w.Source == "file":
		position := int64(-1)
		m.piece = func(at, n int64) error {
			if at != position {
				if _, err := p.file.Seek(at, io.SeekStart); err != nil {
					return err
				}
			}
			position = at + n
			_, err := io.CopyN(p.conn, p.file, n)
			return err
		}
	default:
		m.piece = func(_, n int64) error {
			_, err := io.CopyN(p.conn, p.source, n)
			return err
		}
	}
	return m, nil
}
