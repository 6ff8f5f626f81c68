package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// pattern is what is sent.
func pattern(n int) []byte { return bytes.Repeat([]byte("zero copy "), n/10+1)[:n] }

// source is what is sent.
type source struct {
	memory  []byte
	buffer  transmit.Buffer // registered memory, if pool is not nil
	pool    *transmit.Pool
	file    *os.File
	mapping transmit.Mapping
	pipe    [2]int
	relay   func(context.Context, net.Conn) (int64, error) // makes one send
	undo    []func() error                                 // the last first
}

func (s *source) close() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	return errors.Join(errs...)
}

func (s *source) later(fn func() error) { s.undo = append(s.undo, fn) }

func openSource(ctx context.Context, p *place, t Traffic, ring *transmit.Ring) (*source, error) {
	s := &source{}
	if err := s.open(ctx, p, t, ring); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *source) open(ctx context.Context, p *place, t Traffic, ring *transmit.Ring) error {
	switch {
	case t.Source == Connected:
		return s.feed(ctx, p, t)
	case t.Source == Written:
		return s.fill()
	case t.Registered:
		return s.register(ctx, t, ring)
	case t.Source == Huge:
		return s.huge(t)
	case t.memory():
		s.memory = pattern(t.Size)
		return nil
	}
	var err error
	if s.file, err = sourceFile(t); err != nil {
		return err
	}
	s.later(s.file.Close)
	if t.API == "mmap_zerocopy" {
		if s.mapping, err = transmit.MapFile(s.file); err == nil {
			s.later(func() error { s.mapping.Release(); return nil })
		}
	}
	return err
}

// send makes one send of the source.
func (s *source) send(ctx context.Context, to *transmit.Sender, t Traffic) (transmit.Completion, error) {
	switch {
	case s.file != nil:
		return to.SendFile(ctx, s.file, 0, int64(t.Size), transmit.FileOptions{Backend: transmit.Backend(t.API), Mapping: s.mapping})
	case s.pool != nil:
		return to.SendBuffer(ctx, s.buffer)
	case t.API == "writev":
		return to.Sendv(ctx, s.memory[:t.Size/2], s.memory[t.Size/2:])
	case t.Parts > 1:
		var parts [][]byte
		for i := range t.Parts {
			parts = append(parts, s.memory[i*t.Size/t.Parts:(i+1)*t.Size/t.Parts])
		}
		return to.Sendv(ctx, parts...)
	}
	return to.Send(ctx, s.memory)
}

// register makes memory that the ring knows.
func (s *source) register(ctx context.Context, t Traffic, ring *transmit.Ring) error {
	var err error
	if s.pool, err = transmit.NewPool(transmit.PoolOptions{BufferBytes: t.Size}); err != nil {
		return err
	}
	s.later(func() error { return s.pool.Close(ctx) })
	if s.buffer, err = s.pool.Get(ctx); err != nil {
		return err
	}
	s.later(func() error { s.buffer.Release(); return nil })
	copy(s.buffer.Bytes(), pattern(t.Size))
	return ring.Register(s.buffer)
}

func (s *source) huge(t Traffic) error {
	m, err := sys.Map(nil, -1, 0, hugePage, sys.ProtRead|sys.ProtWrite, sys.MapPrivate|sys.MapAnonymous|sys.MapHugetlb|sys.MapHuge2MB)
	if errors.Is(err, syscall.ENOMEM) {
		return fmt.Errorf("no huge page is left in the reserve (vm.nr_hugepages): %w: %w", err, errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	s.later(func() error { return sys.Unmap(m) })
	s.memory = m[:copy(m, pattern(t.Size))]
	return nil
}

// Magic numbers of file systems in memory; linux/magic.h.
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

func sourceFile(t Traffic) (*os.File, error) {
	data := pattern(t.Size)
	switch t.Source {
	case "":
		fd, err := sys.MemfdCreate("zcprobe-lab")
		if err != nil {
			return nil, err
		}
		return written(fd, data)
	case InTmpfs:
		return temporary([]string{"/dev/shm", os.TempDir(), "/run"}, data, func(magic int64) bool { return magic == tmpfsMagic })
	case OnDisk, Direct:
		f, err := temporary([]string{os.TempDir(), "/var/tmp"}, data, func(magic int64) bool { return magic != tmpfsMagic && magic != ramfsMagic })
		if err != nil || t.Source == OnDisk {
			return f, err
		}
		return direct(f)
	case Procfs:
		return os.Open("/proc/version")
	case Zero:
		return os.Open("/dev/zero")
	}
	return nil, fmt.Errorf("%s: %w", t.Source, errors.ErrUnsupported)
}

// written makes a file of a descriptor, and writes to it.
func written(fd int, data []byte) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "lab")
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// temporary makes a file without a name in the first directory whose file system
// is wanted.
func temporary(dirs []string, data []byte, want func(magic int64) bool) (*os.File, error) {
	var seen []string
	for _, dir := range dirs {
		fd, err := sys.OpenTmpfile(dir)
		if err != nil {
			seen = append(seen, err.Error())
			continue
		}
		magic, err := sys.FSMagic(fd)
		if err == nil && want(magic) {
			return written(fd, data)
		}
		seen = append(seen, fmt.Sprintf("%s has the file system %#x", dir, magic))
		if err = errors.Join(err, sys.Close(fd)); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no directory of that file system: %s: %w", strings.Join(seen, ", "), errors.ErrUnsupported)
}

// direct opens a file anew, to be read past the page cache.
func direct(f *os.File) (*os.File, error) {
	fd, err := sys.Reopen(int(f.Fd()), syscall.O_DIRECT)
	if err = errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, syscall.EINVAL) {
			return nil, fmt.Errorf("the file system has no O_DIRECT: %w: %w", err, errors.ErrUnsupported)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), "lab"), nil
}

// fill makes a pipe.
func (s *source) fill() error {
	var err error
	if s.pipe, err = sys.Pipe(); err != nil {
		return err
	}
	s.later(func() error { return errors.Join(sys.Close(s.pipe[0]), sys.Close(s.pipe[1])) })
	return nil
}

// pour writes to the pipe what it holds, and splices that to a socket. It returns
// how much the socket took, and leaves the rest for the next call.
func (s *source) pour(fd, n int) (int, error) {
	waits, errno := sys.InQueue(s.pipe[0])
	if errno != 0 {
		return 0, errno
	}
	if waits == 0 {
		var err error
		if waits, err = sys.Write(s.pipe[1], pattern(min(n, 32<<10))); err != nil {
			return 0, err
		}
	}
	return sys.Splice(s.pipe[0], nil, fd, waits, sys.SpliceMove|sys.SpliceNonblock)
}

// feed opens a connection from the feeder of a place, which sends what is to be
// passed on.
func (s *source) feed(ctx context.Context, p *place, t Traffic) error {
	feeder, err := p.door(AtFeeder)
	if err != nil {
		return err
	}
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(ctx, "tcp4", feedTo)
	if err != nil {
		return err
	}
	defer l.Close()
	var far net.Conn
	err = feeder.Do(func() (err error) {
		var d net.Dialer
		far, err = d.DialContext(ctx, "tcp4", l.Addr().String())
		return err
	})
	if err != nil {
		return err
	}
	s.later(far.Close)
	near, err := l.Accept()
	if err != nil {
		return err
	}
	s.later(near.Close)
	from, ok := near.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T: %w", near, errors.ErrUnsupported)
	}
	s.relay = func(ctx context.Context, c net.Conn) (int64, error) {
		to, ok := c.(*net.TCPConn)
		if !ok {
			return 0, fmt.Errorf("%T: %w", c, errors.ErrUnsupported)
		}
		fed := make(chan error, 1)
		go func() { _, err := far.Write(pattern(t.Size)); fed <- err }()
		r, err := transmit.Relay(ctx, to, from, int64(t.Size), transmit.RelayOptions{Backend: transmit.Splice})
		if err != nil {
			return r.Bytes, errors.Join(err, far.Close(), <-fed)
		}
		if err := <-fed; err != nil || r.Backend == transmit.Splice {
			return r.Bytes, err
		}
		return r.Bytes, fmt.Errorf("the relay went on by %s: %w", r.Backend, errors.ErrUnsupported)
	}
	return nil
}
