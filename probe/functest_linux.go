package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Sizes and bounds of the functional tests. Loopback delivers within the
// sending system call, so a wait happens only where something failed.
const (
	pageSize = 4096 // the unit in which tests overwrite and compare; a multiple of it on 16 and 64 KiB pages would do no better
	testSize = 2 * pageSize

	waitArrival    = 300 * time.Millisecond // for data over loopback
	waitCompletion = time.Second            // for a completion of MSG_ZEROCOPY or io_uring
)

// functest is one functional test, the feature or hazard it decides, and
// whether choosing a way of sending needs it.
type functest struct {
	id     string
	run    func(*trial)
	choose bool
}

// runTests makes every functional test on throw-away sockets, pipes and files
// and returns what they saw, sorted by id. It leaves nothing behind, loads no
// module, and sends over loopback only.
func runTests(ctx context.Context, h *HostFacts) []Outcome {
	return runFunctests(ctx, kernelCalls(), h, functests())
}

func runFunctests(ctx context.Context, k *calls, h *HostFacts, tests []functest) []Outcome {
	r := newRig(ctx, k, h)
	trials := make([]*trial, 0, len(tests))
	for _, ft := range tests {
		trials = append(trials, r.try(ft))
	}
	r.later.Wait()
	r.close()
	out := make([]Outcome, 0, len(tests))
	for _, t := range trials {
		out = append(out, t.out)
	}
	slices.SortFunc(out, func(a, b Outcome) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// functests is the list of all tests, in the order in which they are made: the
// one that waits for the kernel comes early and goes on beside the others.
func functests() []functest {
	return slices.Concat(deviceTests(), spliceTests(), zerocopyTests(), uringTests(), tlsTests(), fileTests(), hazardTests())
}

// rig is what the tests of one run share.
type rig struct {
	ctx    context.Context
	k      *calls
	host   *HostFacts
	mem    []byte // page-aligned memory that is not Go's: the kernel may use it at any time
	buf    []byte // where received data goes
	old    []byte // what sources hold when they are sent, testSize bytes
	fresh  []byte // what their last page holds afterwards
	ring   *ring  // made by the first test that needs it
	silent string // why loopback carries nothing, once that is known
	looked bool   // whether loopback was looked at
	down   bool   // whether it is down
	later  sync.WaitGroup

	// A connection that tests hand on to each other, since making one costs
	// more than most tests: descriptors to send and to receive, nil for none.
	stream []int
}

const rigBytes = 64 << 10

func newRig(ctx context.Context, k *calls, h *HostFacts) *rig {
	r := &rig{ctx: ctx, k: k, host: h, buf: make([]byte, rigBytes), old: make([]byte, testSize), fresh: make([]byte, pageSize)}
	fill(r.old, 1)
	fill(r.fresh, 2)
	return r
}

func (r *rig) close() {
	r.dropStream()
	if r.ring != nil {
		r.ring.close()
	}
	if r.mem != nil {
		_ = r.k.Munmap(r.mem) // process memory: nothing depends on it any more
	}
}

func (r *rig) dropStream() {
	for _, fd := range r.stream {
		_ = r.k.CloseFD(fd)
	}
	r.stream = nil
}

// try makes one test. It is over once later is done.
func (r *rig) try(ft functest) *trial {
	t := &trial{rig: r, out: Outcome{ID: ft.id, Seen: map[string]int64{}}}
	if r.ctx.Err() != nil {
		t.out.NotTried = "probing was stopped before this test"
		return t
	}
	ft.run(t)
	if t.onStream && !t.passed() {
		r.dropStream() // what is still in it would reach the next test
	}
	if t.rest == nil {
		t.close()
		return t
	}
	// What the rest sends and receives must not meet the tests after this one.
	t.rig = newRig(r.ctx, r.k, r.host)
	r.later.Go(func() {
		t.rest()
		t.close()
		t.rig.close()
	})
	return t
}

// trial is one functional test while it runs.
type trial struct {
	*rig
	out  Outcome
	fds  []int
	mms  [][]byte
	rest func() // what of the test may run beside others, on any thread

	onStream bool // the test used the rig's connection
}

// passed reports whether every call worked and what arrived was compared.
func (t *trial) passed() bool {
	return t.out.Seen["equal"] == 1 && !slices.ContainsFunc(t.out.Steps, func(s Step) bool { return s.Errno != "" })
}

// close gives back what the test used. There is nothing to flush, and no
// failure to act upon.
func (t *trial) close() {
	for _, b := range t.mms {
		_ = t.k.Munmap(b)
	}
	if t.rest == nil {
		for _, fd := range slices.Backward(t.fds) {
			_ = t.k.CloseFD(fd)
		}
		return
	}
	var wg sync.WaitGroup
	for _, fd := range t.fds {
		wg.Go(func() { _ = t.k.CloseFD(fd) })
	}
	wg.Wait()
}

// own closes a descriptor when the test ends.
func (t *trial) own(fds ...int) {
	t.fds = append(t.fds, fds...)
}

// step records a call that says something about the feature, and reports
// whether it succeeded.
func (t *trial) step(op string, err error) bool { return t.stepValue(op, "", err) }

func (t *trial) stepValue(op, value string, err error) bool {
	s := Step{Op: op, Value: value}
	if err != nil {
		s.Errno, s.Value = stepErrno(err), ""
	}
	t.out.Steps = append(t.out.Steps, s)
	return err == nil
}

// prep records the failure of a call that only prepares the test.
func (t *trial) prep(op string, err error) bool {
	if err != nil {
		t.out.Steps = append(t.out.Steps, Step{Op: op, Errno: stepErrno(err), Prep: true})
	}
	return err == nil
}

func stepErrno(err error) string {
	if n := sys.ErrnoName(err); n != "" {
		return n
	}
	return err.Error()
}

func (t *trial) see(name string, v int64) { t.out.Seen[name] = v }

func (t *trial) seeBool(name string, v bool) {
	t.see(name, 0)
	if v {
		t.see(name, 1)
	}
}

// count records how much a call moved, and whether it was all of n.
func (t *trial) count(op string, got, n int, err error) bool {
	t.see("sent_bytes", int64(max(got, 0)))
	return t.stepValue(op, fmt.Sprintf("%d of %d bytes", got, n), err) && got == n
}

// notTried says why the test is not made.
func (t *trial) notTried(why string) { t.out.NotTried = why }

// errWait says that something did not happen within its bound.
var errWait = errors.New(errWaitText)

// wait waits for events on a descriptor. False: they did not come in time.
func (t *trial) wait(fd int, events int16, d time.Duration) bool {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		got, err := t.k.Poll(fd, events, int(max(left, 0).Milliseconds()))
		if err == nil && got != 0 {
			return true
		}
		if (err != nil && !errors.Is(err, syscall.EINTR)) || left <= 0 || t.ctx.Err() != nil {
			return false
		}
	}
}

// move calls fn, which moves up to n bytes from a position on, until n bytes
// are moved, it fails, or moves nothing. A full socket or pipe (EAGAIN) is
// emptied by nobody here, so it is an end, too.
func move(n int, fn func(done int) (int, error)) (int, error) {
	done := 0
	for range 1000 { // more calls than any n here has pages
		m, err := fn(done)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return done, err
		}
		if err == nil && m <= 0 {
			return done, nil
		}
		if done += max(m, 0); done >= n {
			return done, nil
		}
	}
	return done, errWait
}

// receive reads n bytes, or one datagram, into the rig's buffer, waiting d for
// each piece. The result is what came.
func (t *trial) receive(fd, n int, d time.Duration) ([]byte, error) {
	got := 0
	for got < n {
		m, err := t.k.Recv(fd, t.buf[got:n], 0)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			if !t.wait(fd, sys.PollIn, d) {
				return t.buf[:got], errWait
			}
		case err != nil:
			return t.buf[:got], err
		case m <= 0:
			return t.buf[:got], errors.New("connection closed")
		}
		got += max(m, 0)
	}
	return t.buf[:got], nil
}

// readPipe reads n bytes from a pipe into the rig's buffer.
func (t *trial) readPipe(fd, n int) ([]byte, error) {
	got, err := move(n, func(done int) (int, error) { return t.k.Read(fd, t.buf[done:n]) })
	return t.buf[:got], err
}

// fill writes into b bytes that tell every page, offset and seed from the others.
func fill(b []byte, seed byte) {
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}

// memory returns n bytes of page-aligned memory that tests share, filled with
// the rig's pattern, each page numbered.
func (t *trial) memory(n int) ([]byte, bool) {
	if t.mem == nil {
		m, err := t.k.Mmap(-1, 0, rigBytes, sys.ProtRead|sys.ProtWrite, sys.MapPrivate|sys.MapAnonymous)
		if err == nil && len(m) < rigBytes {
			err = errors.New("short mapping")
		}
		if !t.prep("mmap", err) {
			return nil, false
		}
		t.rig.mem = m
	}
	for at := 0; at < n; at += pageSize {
		copy(t.mem[at:n], t.old[:pageSize])
		t.mem[at] = byte(at / pageSize)
	}
	return t.mem[:n], true
}

// source makes a file without a name that holds the rig's pattern: a memfd, or
// where there is none a temporary file.
func (t *trial) source() (int, bool) {
	fd, err := t.k.Memfd("zcprobe")
	if err != nil {
		for _, dir := range []string{os.TempDir(), "/dev/shm"} {
			if tmp, tmpErr := t.k.OpenTmpfile(dir); tmpErr == nil {
				fd, err = tmp, nil
				break
			}
		}
	}
	if !t.prep("memfd_create", err) {
		return -1, false
	}
	t.own(fd)
	n, err := t.k.Pwrite(fd, t.old, 0)
	if err == nil && n != len(t.old) {
		err = errors.New("short write")
	}
	return fd, t.prep("pwrite", err)
}

// renew overwrites the last page of a source after it was sent. Where the new
// bytes arrive, the kernel holds a reference to the page and no copy of it.
func (t *trial) renew(fd int) bool {
	n, err := t.k.Pwrite(fd, t.fresh, testSize-pageSize)
	if err == nil && n != pageSize {
		err = errors.New("short write")
	}
	return t.prep("pwrite", err)
}

// compare records whether what arrived is what was sent: Seen "received_bytes"
// and "equal". With renewed, the last page may be as it was when it was sent or
// as it is now, and Seen "page_ref" says which.
func (t *trial) compare(got []byte, renewed bool) {
	t.see("received_bytes", int64(len(got)))
	head := len(t.old)
	if renewed {
		head -= pageSize
	}
	equal := len(got) == len(t.old) && bytes.Equal(got[:head], t.old[:head])
	if equal && renewed {
		isNew := bytes.Equal(got[head:], t.fresh)
		equal = isNew || bytes.Equal(got[head:], t.old[head:])
		if equal {
			t.seeBool("page_ref", isNew)
		}
	}
	t.seeBool("equal", equal)
}
