package transmit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// ringFault is what happens to a call of io_uring_enter that hands over requests: it
// fails, or its requests are changed before.
type ringFault func(call int, first sqe) (n int, err error, done bool)

// sqe is a request in the memory of a ring.
type sqe []byte

func (e sqe) word(at int, v uint32) { binary.NativeEndian.PutUint32(e[at:], v) }

// answer makes the request be answered with an errno, by a request for nothing that
// does (IORING_NOP_INJECT_RESULT, Linux 6.11).
func (e sqe) answer(errno syscall.Errno) {
	user := binary.NativeEndian.Uint64(e[32:])
	clear(e)
	e.word(24, -uint32(errno))
	e.word(28, 1)
	binary.NativeEndian.PutUint64(e[32:], user)
}

// faultyRing returns a ring with a fault, which begins after the opcodes were tried.
func faultyRing(t testing.TB, o RingOptions, fault ringFault) (r *Ring, calls *int) {
	t.Helper()
	k := kernelRingCalls()
	enter := k.Enter
	calls = new(int)
	k.Enter = func(fd int, submit, wait, flags uint32) (int, error) {
		if r == nil || submit == 0 || fault == nil {
			return enter(fd, submit, wait, flags)
		}
		call := *calls
		*calls++
		tail := *r.u.Tail()
		at := int(tail-submit) & (r.o.Requests - 1) * 64
		if n, err, done := fault(call, sqe(r.sqes[at:at+64])); done {
			return n, err
		}
		return enter(fd, submit, wait, flags)
	}
	made, err := newRing(o, k)
	if err != nil {
		skipRing(t, err)
	}
	if made.noZC != nil {
		skipRing(t, made.noZC)
	}
	r = made
	t.Cleanup(func() {
		if err := r.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return r, calls
}

func skipRing(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOMEM) {
		t.Skipf("needs io_uring with SEND_ZC: %v", err)
	}
	t.Fatal(err)
}

// TestRingFaults makes calls and requests fail: every byte arrives once and in order,
// and what was refused is told once.
func TestRingFaults(t *testing.T) {
	const size = 600<<10 + 7
	fails := func(from, every int, err error) ringFault {
		return func(call int, _ sqe) (int, error, bool) {
			return 0, err, call >= from && (call-from)%every == 0
		}
	}
	answers := func(from, every int, e syscall.Errno) ringFault {
		return func(call int, q sqe) (int, error, bool) {
			if call >= from && (call-from)%every == 0 {
				q.answer(e)
			}
			return 0, nil, false
		}
	}
	plain, err := newRing(RingOptions{}, kernelRingCalls())
	if err != nil {
		skipRing(t, err)
	}
	// Before Linux 6.11 requests for nothing succeed.
	injects := errors.Is(plain.tryOne(sys.UringSQE{Opcode: sys.UringOpNop, Len: ^uint32(syscall.EIO) + 1, OpFlags: 1}), syscall.EIO)
	if err := plain.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		fault ringFault
		cause string
		told  error
		all   bool // goes through the ring all the same

		answers bool // it needs requests that fail
	}{
		"seccomp from the start":     {fault: fails(0, 1, syscall.EPERM), cause: "fast-path-refused", told: fs.ErrPermission},
		"seccomp later":              {fault: fails(1, 1, syscall.EPERM), cause: "fast-path-refused", told: fs.ErrPermission},
		"no system call later":       {fault: fails(1, 1, syscall.ENOSYS), cause: "fast-path-refused", told: errors.ErrUnsupported},
		"descriptor closed":          {fault: fails(1, 1, syscall.EBADF), cause: "fast-path-refused", told: syscall.EBADF},
		"descriptor of a file":       {fault: fails(1, 1, syscall.EOPNOTSUPP), cause: "fast-path-refused", told: errors.ErrUnsupported},
		"descriptor of another ring": {fault: func(call int, _ sqe) (int, error, bool) { return 1, nil, call == 1 }, cause: "fast-path-refused", told: syscall.EBADF},
		"no memory for requests":     {fault: fails(1, 1, syscall.EAGAIN), cause: "fast-path-refused", told: syscall.ENOMEM},
		"no memory now and then":     {fault: fails(0, 2, syscall.EAGAIN), all: true},
		"interrupted":                {fault: fails(0, 2, syscall.EINTR), all: true},
		"answers that find no place": {fault: fails(0, 3, syscall.EBUSY), all: true},
		"request unknown":            {answers: true, fault: answers(1, 1, syscall.EINVAL), cause: "ulp", told: syscall.EINVAL},
		"protocol on top":            {answers: true, fault: answers(1, 1, syscall.EOPNOTSUPP), cause: "ulp", told: errors.ErrUnsupported},
		"locked memory used up":      {answers: true, fault: answers(1, 1, syscall.ENOMEM), cause: "memlock-limit", told: syscall.ENOMEM},
		"cannot be pinned":           {answers: true, fault: answers(0, 2, syscall.EFAULT), cause: "gup-efault", told: syscall.EFAULT},
		"interrupted requests":       {answers: true, fault: answers(0, 2, syscall.EINTR), all: true},
		"one byte at a time at first": {fault: func(call int, q sqe) (int, error, bool) {
			if call < 50 {
				q.word(24, 1)
			}
			return 0, nil, false
		}, all: true},
		"short": {fault: func(call int, q sqe) (int, error, bool) {
			q.word(24, max(1, binary.NativeEndian.Uint32(q[24:])/3*2))
			return 0, nil, false
		}, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.answers && !injects {
				t.Skip("needs a kernel that answers as it is told (IORING_NOP_INJECT_RESULT)")
			}
			r, calls := faultyRing(t, RingOptions{}, c.fault)
			out, in := tcpPair(t)
			var told []*Downgrade
			s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
			if err != nil {
				t.Fatal(err)
			}
			got := received(in)
			p := pattern(size)
			var last Completion
			for i := range 3 {
				if last, err = s.Send(t.Context(), p); err != nil || last.Bytes() != size {
					t.Fatalf("send %d: %d bytes, %v", i, last.Bytes(), err)
				}
			}
			if _, err := last.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			st, rs := s.Stats(), r.Stats()
			if c.all && (len(told) > 0 || st.PlainBytes > 0 || rs.Sends != st.ZerocopySends) {
				t.Errorf("told %v, %+v, %+v", told, st, rs)
			}
			if !c.all && (len(told) == 0 || len(told) > 2 || !strings.Contains(told[0].Cause, c.cause) || !errors.Is(told[0], c.told) || told[0].From != IoUringSendZC) {
				t.Errorf("told %v, want %s", told, c.cause)
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b := <-got; !bytes.Equal(b, bytes.Repeat(p, 3)) {
				t.Errorf("%d bytes arrived, not what was sent", len(b))
			}
			if *calls > 4000 {
				t.Errorf("%d calls: it spins", *calls)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRingErrors makes sends fail for good: it is said how far they got.
func TestRingErrors(t *testing.T) {
	r, _ := faultyRing(t, RingOptions{}, nil)
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, DrainTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = in.Close() // with a reset
	time.Sleep(10 * time.Millisecond)
	p := pattern(1 << 20)
	_, err = s.Send(t.Context(), p)
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRingRefused looks at rings that cannot be had.
func TestRingRefused(t *testing.T) {
	fds := openFDs(t)
	for errno, want := range map[syscall.Errno]error{
		syscall.ENOSYS: errors.ErrUnsupported, syscall.EPERM: fs.ErrPermission, syscall.EINVAL: errors.ErrUnsupported, syscall.ENOMEM: syscall.ENOMEM,
	} {
		k := kernelRingCalls()
		k.Setup = func(uint32, *sys.UringParams) (int, error) { return -1, sys.Wrap("io_uring_setup", errno) }
		if r, err := newRing(RingOptions{}, k); r != nil || !errors.Is(err, want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	for what, spoil := range map[string]func(k *ringCalls){
		"mmap": func(k *ringCalls) {
			k.Map = func([]byte, int, int64, int, int, int) ([]byte, error) { return nil, syscall.ENOMEM }
		},
		"eventfd": func(k *ringCalls) { k.Eventfd = func() (int, error) { return -1, syscall.EMFILE } },
		"notify":  func(k *ringCalls) { k.Notify = func(int, int) error { return syscall.EINVAL } },
		"enter": func(k *ringCalls) {
			k.Enter = func(int, uint32, uint32, uint32) (int, error) { return 0, syscall.EPERM }
		},
		"stuck": func(k *ringCalls) { k.Enter = func(int, uint32, uint32, uint32) (int, error) { return 0, nil } },
	} {
		k := kernelRingCalls()
		spoil(k)
		if r, err := newRing(RingOptions{}, k); r != nil || err == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := openFDs(t); n > fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
}
