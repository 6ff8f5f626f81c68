package transmit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A Ring is an io_uring(7) that any number of connections send through, each with
// Options.Ring in its [Sender]. Requests of goroutines that send at the same time
// are handed to the kernel by one system call, and [Ring.NewBatch] does so for one
// goroutine that sends on many connections. Memory of a [Pool] is registered with
// the ring when it is first sent, so that the kernel need not look up and pin its
// pages each time: the cheapest way to send memory that is known.
//
// A connection waits for room with Go's poller as ever: deadlines and Close work,
// and no thread waits for it. One goroutine takes in notifications when nobody
// sends. A ring belongs to no thread, and is used by any goroutine; two make sense
// where one goroutine after another waits for its turn. It needs [Ring.Close].
//
// The locked memory of its user (RLIMIT_MEMLOCK) is charged with registered memory,
// and with other memory as long as it is lent, unless the process has CAP_IPC_LOCK.
// A thread that handed over a request is interrupted by its notification: where the
// thread is in a system call that is not restarted after a signal, in C code, that
// call ends with EINTR.
//
// Linux 6.0, or 6.1 for sends of several parts; [IoUringSend] from 5.6 on.
type Ring struct {
	k *ringCalls
	o RingOptions

	fd         int
	u          *sys.Uring // under mu
	ring, sqes []byte
	event      *os.File // an eventfd, signalled when there are answers
	usage      uint16   // sys.UringSendReportUsage, if the kernel knows it
	noZC       error    // why there is no SEND_ZC
	noMessage  error    // why there is no SENDMSG_ZC

	mu      sync.Mutex
	queue   []*request // to be handed over
	batch   []uint64   // the flights of the call that is under way
	leading bool       // a goroutine hands over requests
	crowded bool       // others came meanwhile
	inside  bool       // the leader is in the kernel
	flights flights
	watched bool   // the reaper's deadline is set, or it waits for the eventfd
	armed   bool   // the eventfd is to be signalled
	hurried bool   // somebody waits for a notification
	calls   uint64 // of enter
	dead    error  // why enter is not to be called any more
	closed  bool
	stats   RingStats
	done    chan struct{} // closed when all is given back

	broken atomic.Bool // dead is set
	bufs   ringBuffers
}

// NewRing makes a ring. The error matches errors.ErrUnsupported where the kernel
// has none, or none that sends, and fs.ErrPermission where this process may not
// have one (kernel.io_uring_disabled, a seccomp filter); ENOMEM says that the
// locked memory of the user does not suffice.
func NewRing(o RingOptions) (*Ring, error) {
	r, err := newRing(o, kernelRingCalls())
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return r, nil
}

func newRing(o RingOptions, k *ringCalls) (*Ring, error) {
	o.fill()
	r := &Ring{k: k, o: o, fd: -1, done: make(chan struct{})}
	err := r.setUp()
	if err == nil {
		err = r.tryOpcodes()
	}
	if err == nil {
		err = r.listen()
	}
	if err != nil {
		return nil, errors.Join(err, r.tearDown())
	}
	r.flights.most = o.InFlight
	r.bufs.begin(r)
	go r.reap()
	return r, nil
}

// setUp makes the ring, with flags that only save work where the kernel has them.
func (r *Ring) setUp() error {
	var p sys.UringParams
	var err error
	for _, extra := range []uint32{sys.UringSetupCoopTaskrun | sys.UringSetupSubmitAll, 0} {
		// There is always a place for every answer and notification.
		p = sys.UringParams{CQEntries: uint32(r.o.InFlight + r.o.Requests), Flags: sys.UringSetupCQSize | sys.UringSetupClamp | extra}
		r.fd, err = r.k.Setup(uint32(r.o.Requests), &p)
		if !errors.Is(err, syscall.EINVAL) {
			break
		}
	}
	if errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err) // before Linux 5.6
	}
	if err != nil {
		r.fd = -1
		return err
	}
	nr, ns, err := sys.UringSize(&p)
	if err != nil {
		return err
	}
	const prot, flags = sys.ProtRead | sys.ProtWrite, sys.MapShared | sys.MapPopulate
	if r.ring, err = r.k.Map(nil, r.fd, sys.UringOffSQRing, nr, prot, flags); err != nil {
		return err
	}
	if r.sqes, err = r.k.Map(nil, r.fd, sys.UringOffSQEs, ns, prot, flags); err != nil {
		return err
	}
	// A child that is no exec yet has no business with it. Go makes none.
	_ = r.k.Madvise(r.ring, sys.AdviseDontfork)
	_ = r.k.Madvise(r.sqes, sys.AdviseDontfork)
	if r.u, err = sys.NewUring(&p, r.ring, r.sqes); err != nil {
		return err
	}
	r.o.Requests = int(p.SQEntries)
	r.o.InFlight = min(r.o.InFlight, int(p.CQEntries)-int(p.SQEntries))
	if r.o.InFlight <= 0 {
		r.o.InFlight = 1
	}
	return nil
}

// tryOpcodes finds out what the kernel sends with. The requests are for no file:
// EBADF says that everything else of them is right.
func (r *Ring) tryOpcodes() error {
	probe := &ringProbe{byte: [1]byte{0}}
	probe.iov = sys.AppendIovec(nil, probe.byte[:])
	probe.msg.Set(probe.iov, nil)
	var plain, message sys.UringSQE
	plain.SetBuffer(probe.byte[:])
	message.SetMessage(&probe.msg)
	try := func(e sys.UringSQE, op uint8, flags uint16) error {
		e.Opcode, e.Ioprio, e.Fd, e.OpFlags = op, flags, -1, sys.MsgDontwait|sys.MsgNosignal
		switch err := r.tryOne(e); {
		case errors.Is(err, syscall.EBADF):
			return nil
		case errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("the kernel does not know the request: %w: %w", errors.ErrUnsupported, err)
		case err == nil:
			return errors.New("io_uring: a request for no file was answered with success")
		default:
			return err
		}
	}
	if err := try(plain, sys.UringOpSend, 0); err != nil {
		return fmt.Errorf("IORING_OP_SEND: %w", err)
	}
	if r.noZC = try(plain, sys.UringOpSendZC, sys.UringSendReportUsage); r.noZC == nil {
		r.usage = sys.UringSendReportUsage
	} else {
		r.noZC = try(plain, sys.UringOpSendZC, 0) // early kernels cannot say whether they copied
	}
	if r.noMessage = r.noZC; r.noZC == nil {
		r.noMessage = try(message, sys.UringOpSendmsgZC, r.usage)
	}
	if r.noZC != nil {
		r.noZC = fmt.Errorf("IORING_OP_SEND_ZC: %w", r.noZC)
	}
	return nil
}

// ringProbe is memory for requests that are tried, on the heap.
type ringProbe struct {
	byte [1]byte
	iov  []sys.Iovec
	msg  sys.UringMessage
}

// tryOne makes a request and returns how it was answered. Nobody else uses the
// ring yet.
func (r *Ring) tryOne(e sys.UringSQE) error {
	const id = 1<<64 - 1 // of no flight
	e.UserData = id
	r.u.Push(e)
	if err := r.enterAll(); err != nil {
		return err
	}
	var res error
	for first, more := false, false; !first || more; {
		c, ok := r.u.Pop()
		if !ok {
			if _, err := r.k.Enter(r.fd, 0, 1, sys.UringEnterGetevents); err != nil && !errors.Is(err, syscall.EINTR) {
				return err
			}
			continue
		}
		switch {
		case c.UserData != id:
		case c.Flags&sys.UringCQENotif != 0:
			more = false
		default:
			first, more = true, c.Flags&sys.UringCQEMore != 0
			if c.Res < 0 {
				res = syscall.Errno(-c.Res)
			}
		}
	}
	return res
}

// enterAll hands over what was pushed, while nobody else uses the ring.
func (r *Ring) enterAll() error {
	for range mostTries {
		if r.u.Pending() == 0 {
			return nil
		}
		_, err := r.k.Enter(r.fd, uint32(r.u.Pending()), 0, 0)
		if err != nil && !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.EAGAIN) {
			return err
		}
	}
	return errors.New("io_uring: requests are not taken")
}

// mostTries bounds how often in a row a call may say that it is to be made again.
const mostTries = 100

// listen makes the kernel tell Go's poller of answers.
func (r *Ring) listen() error {
	fd, err := r.k.Eventfd()
	if err != nil {
		return err
	}
	r.event = os.NewFile(uintptr(fd), "io_uring eventfd")
	r.u.Quiet(true)
	return r.k.Notify(r.fd, fd)
}

// ZeroCopy returns nil if the ring sends without a copy, and else why not: memory is
// then sent by MSG_ZEROCOPY or copied.
func (r *Ring) ZeroCopy() error { return r.noZC }

// Stats returns what was counted so far.
func (r *Ring) Stats() RingStats {
	r.mu.Lock()
	st := r.stats
	st.InFlight = r.flights.out
	r.mu.Unlock()
	st.Buffers, st.RegisteredBytes = r.bufs.count()
	return st
}

// Close ends the ring: its Senders go on without it, at the byte where they are. It
// waits until the kernel holds none of the memory that was lent through the ring,
// or until ctx ends, which is an error. Nothing is abandoned then: notifications are
// taken in for as long as they come, and the ring is given back after the last.
func (r *Ring) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.kick(0)
	select {
	case <-r.done:
		return nil
	default:
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("transmit: close a ring with %d sends in flight: %w", r.Stats().InFlight, context.Cause(ctx))
	}
}

// tearDown gives everything back. Nobody uses the ring any more.
func (r *Ring) tearDown() error {
	var errs []error
	for _, m := range [][]byte{r.ring, r.sqes} {
		if m != nil {
			errs = append(errs, r.k.Unmap(m))
		}
	}
	r.ring, r.sqes, r.u = nil, nil, nil
	// A descriptor that is no ring any more is somebody else's.
	if r.fd >= 0 && (r.dead == nil || !stolen(r.dead)) {
		errs = append(errs, r.k.Close(r.fd))
	}
	if r.event != nil {
		errs = append(errs, r.event.Close())
	}
	return errors.Join(errs...)
}

// stolen reports whether an error of io_uring_enter says that the descriptor was
// closed, or is one of something else.
func stolen(err error) bool {
	return errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EOPNOTSUPP)
}
