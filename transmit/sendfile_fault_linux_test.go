package transmit

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A fileFault decides what becomes of a call: how much of n bytes, or the error.
type fileFault func(call, n int) (int, error)

func failFrom(first int, err error) fileFault {
	return func(call, n int) (int, error) {
		if call >= first {
			return 0, err
		}
		return n, nil
	}
}

func failEach(nth int, err error) fileFault {
	return func(call, n int) (int, error) {
		if call%nth == nth-1 {
			return 0, err
		}
		return n, nil
	}
}

// wrapped is how the calls return an error.
func wrapped(call string, err error) error {
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return err
	}
	return sys.Wrap(call, err)
}

// faultyFile returns calls of which those that move bytes meet the fault.
func faultyFile(f fileFault) *calls {
	k, n := *kernelCalls(), 0
	meet := func(size int) (int, error) {
		m, err := f(n, size)
		n++
		return m, err
	}
	k.Sendfile = func(out, in int, off *int64, size int) (int, error) {
		size, err := meet(min(size, 256<<10))
		if err != nil {
			return 0, wrapped("sendfile", err)
		}
		return kernel.Sendfile(out, in, off, size)
	}
	k.Splice = func(in int, inOff *int64, out int, outOff *int64, size, flags int) (int, error) {
		size, err := meet(size)
		if err != nil {
			return 0, wrapped("splice", err)
		}
		return kernel.Splice(in, inOff, out, outOff, size, flags)
	}
	return &k
}

// TestSendFileFaults makes the calls fail that move a file: every byte arrives once
// and in order, what was refused is told once, and the next file does not suffer from
// what was this one's.
func TestSendFileFaults(t *testing.T) {
	const size = 3<<20 + 77
	content := pattern(size)
	f := sourceFile(t, t.TempDir(), content)
	faults := map[string]struct {
		fileFault
		told    error // nil: nothing
		cause   string
		demoted bool
	}{
		"ENOSYS":              {failFrom(0, syscall.ENOSYS), errors.ErrUnsupported, "fast-path-refused", true},
		"EPERM":               {failFrom(0, syscall.EPERM), syscall.EPERM, "fast-path-refused", true},
		"EACCES":              {failFrom(1, syscall.EACCES), syscall.EACCES, "fast-path-refused", true},
		"EINVAL":              {failFrom(0, syscall.EINVAL), syscall.EINVAL, "fast-path-refused", false},
		"EINVAL in between":   {failFrom(3, syscall.EINVAL), syscall.EINVAL, "fast-path-refused", false},
		"EOPNOTSUPP":          {failFrom(2, syscall.EOPNOTSUPP), errors.ErrUnsupported, "fast-path-refused", false},
		"ESPIPE":              {failFrom(0, syscall.ESPIPE), syscall.ESPIPE, "fast-path-refused", false},
		"ENOMEM":              {failFrom(1, syscall.ENOMEM), syscall.ENOMEM, "fast-path-refused", false},
		"EIO of the pages":    {failFrom(1, syscall.EIO), syscall.EIO, "page-not-sendable", false},
		"EAGAIN for ever":     {failFrom(2, syscall.EAGAIN), syscall.EAGAIN, "fast-path-refused", false},
		"EAGAIN now and then": {failEach(2, syscall.EAGAIN), nil, "", false},
		"EINTR now and then":  {failEach(2, syscall.EINTR), nil, "", false},
		"short":               {func(call, n int) (int, error) { return max(n-call*1001, min(n, 7001)), nil }, nil, "", false},
		"bytes at first": {func(call, n int) (int, error) {
			if call < 100 {
				n = 1
			}
			return n, nil
		}, nil, "", false},
		"the end too early": {func(call, n int) (int, error) {
			if call > 2 {
				n = 0
			}
			return n, nil
		}, nil, "fast-path-refused", false},
	}
	for name, c := range faults {
		for _, way := range []Backend{Sendfile, Splice} {
			t.Run(fmt.Sprintf("%s/%s", name, way), func(t *testing.T) {
				out, in := tcpPair(t)
				got := received(in)
				var told []*Downgrade
				s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
				if err != nil {
					t.Fatal(err)
				}
				s.calls = faultyFile(c.fileFault)
				s.pipes = &pipePool{calls: s.calls}
				done, err := s.SendFile(t.Context(), f, 1, size-1, FileOptions{Header: [][]byte{[]byte("head")}, Trailer: [][]byte{[]byte("tail")}})
				if err != nil {
					t.Fatal(err)
				}
				want := "head" + string(content[1:]) + "tail"
				if r, err := done.Wait(t.Context()); err != nil || r.Cause != c.cause || r.Bytes != int64(len(want)) {
					t.Errorf("%+v, %v", r, err)
				}
				switch {
				case c.cause == "" && len(told) > 0:
					t.Errorf("told %v", told)
				case c.cause != "" && (len(told) == 0 || told[0].From != way || told[0].Cause != c.cause || c.told != nil && !errors.Is(told[0], c.told)):
					t.Errorf("told %v, want %v", told, c.told)
				}
				if s.file.demoted.has(way) != c.demoted {
					t.Errorf("demoted: %v", !c.demoted)
				}
				// The same again by the kernel's own calls.
				s.calls, s.pipes = kernelCalls(), &pipes
				if done, err = s.SendFile(t.Context(), f, 0, -1, FileOptions{}); err != nil || (done.Backend() != way) != c.demoted {
					t.Errorf("%v, by %s", err, done.Backend())
				}
				closeWrite(t, s)
				if b := <-got; !bytes.Equal(b, append([]byte(want), content...)) {
					t.Errorf("%d bytes arrived of %d", len(b), len(want)+size)
				}
			})
		}
	}
}

// TestSendFileReadFaults makes reading fail: that is an error, and says how far it got.
func TestSendFileReadFaults(t *testing.T) {
	const size = 1 << 20
	content := pattern(size)
	f := sourceFile(t, t.TempDir(), content)
	for _, way := range []Backend{Sendfile, Splice, MmapWrite, MmapZerocopy, ReadWrite} {
		t.Run(string(way), func(t *testing.T) {
			out, in := tcpPair(t)
			got := received(in)
			s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Error(d) }})
			if err != nil {
				t.Fatal(err)
			}
			const bad = 300 << 10
			k := *kernelCalls()
			k.Pread = func(fd int, p []byte, off int64) (int, error) {
				if off >= bad {
					return 0, sys.Wrap("pread", syscall.EIO)
				}
				return kernel.Pread(fd, p[:min(int64(len(p)), bad-off)], off)
			}
			k.Sendfile = func(out, in int, off *int64, n int) (int, error) {
				if *off >= bad {
					return 0, sys.Wrap("sendfile", syscall.EIO)
				}
				return kernel.Sendfile(out, in, off, int(min(int64(n), bad-*off)))
			}
			k.Splice = func(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error) {
				if inOff != nil {
					if *inOff >= bad {
						return 0, sys.Wrap("splice", syscall.EIO)
					}
					n = int(min(int64(n), bad-*inOff))
				}
				return kernel.Splice(in, inOff, out, outOff, n, flags)
			}
			sent := 0
			take := func(n int) (int, syscall.Errno) {
				if n = min(n, bad-sent); n <= 0 {
					return 0, syscall.EFAULT
				}
				sent += n
				return n, 0
			}
			s.calls = &k
			if way == MmapWrite || way == MmapZerocopy {
				send := s.k.Send
				s.k.Send = func(fd int, p []byte, flags int) (int, syscall.Errno) {
					n, e := take(len(p))
					if e != 0 {
						return 0, e
					}
					m, e := send(fd, p[:n], flags)
					sent -= n - m
					return m, e
				}
			}
			c, err := s.SendFile(t.Context(), f, 0, -1, FileOptions{})
			if !errors.Is(err, syscall.EIO) || c.Bytes() != bad {
				t.Errorf("%d bytes, %v", c.Bytes(), err)
			}
			if _, err := c.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			closeWrite(t, s)
			if b := <-got; !bytes.Equal(b, content[:bad]) {
				t.Errorf("%d bytes arrived", len(b))
			}
		})
	}
}

// TestSendFileNotLent makes lending from a mapping fail: every byte arrives once.
func TestSendFileNotLent(t *testing.T) {
	const size = 3<<20 + 77
	content := pattern(size)
	f := sourceFile(t, t.TempDir(), content)
	for name, c := range map[string]struct {
		fileFault
		cause string
	}{
		"EOPNOTSUPP":               {failFrom(0, syscall.EOPNOTSUPP), "ulp"},
		"no buffers":               {failFrom(0, syscall.ENOBUFS), "memlock-limit"},
		"no buffers in between":    {failEach(3, syscall.ENOBUFS), "memlock-limit"},
		"EFAULT":                   {failFrom(1, syscall.EFAULT), "gup-efault"},
		"EINTR and EAGAIN":         {func(call, n int) (int, error) { return n, [...]error{nil, syscall.EINTR}[call%2] }, ""},
		"short":                    {func(call, n int) (int, error) { return max(n-call*1001, min(n, 7001)), nil }, ""},
		"EFAULT, and sendfile too": {failFrom(1, syscall.EFAULT), "gup-efault"},
	} {
		t.Run(name, func(t *testing.T) {
			out, in := tcpPair(t)
			got := received(in)
			var told []*Downgrade
			s, err := NewSender(out, Options{OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
			if err != nil {
				t.Fatal(err)
			}
			s.zc = lending{numbered: true} // the peer is on this machine, which is not to be noticed
			kept := NewMappings(MappingsOptions{})
			defer kept.Close()
			send, calls := s.k.Send, 0
			s.k.Send = func(fd int, p []byte, flags int) (int, syscall.Errno) {
				if flags&sys.MsgZerocopy == 0 {
					return send(fd, p, flags)
				}
				n, err := c.fileFault(calls, len(p))
				calls++
				if err != nil {
					return 0, err.(syscall.Errno)
				}
				return send(fd, p[:n], flags)
			}
			if name == "EFAULT, and sendfile too" {
				s.calls = faultyFile(failFrom(0, syscall.EINVAL))
				s.pipes = &pipePool{calls: s.calls}
			}
			var want []byte
			for range 3 {
				c, err := s.SendFile(t.Context(), f, 5, -1, FileOptions{Mappings: kept, Header: [][]byte{[]byte("head")}, Trailer: [][]byte{[]byte("tail")}})
				if err != nil {
					t.Fatalf("after %d bytes: %v", c.Bytes(), err)
				}
				want = append(append(append(want, "head"...), content[5:]...), "tail"...)
			}
			if calls == 0 {
				t.Error("nothing was lent")
			}
			for _, d := range told {
				// After many sends over loopback the kernel is also found to copy.
				ok := d.Cause == c.cause || d.Cause == "" || c.cause == "memlock-limit" && d.Cause == "optmem-limit" || d.From == Sendfile
				if !ok || d.From == MmapZerocopy && d.To != Sendfile {
					t.Errorf("told %v", d)
				}
			}
			if c.cause != "" && (len(told) == 0 || told[0].From != MmapZerocopy || told[0].Cause == "") {
				t.Errorf("told %v", told)
			}
			closeWrite(t, s)
			if b := <-got; !bytes.Equal(b, want) {
				t.Errorf("%d bytes arrived of %d", len(b), len(want))
			}
		})
	}
}
