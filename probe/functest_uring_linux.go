package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// uringTests send through io_uring over loopback. Seen: "opcode" 1 where the
// kernel lists the opcode; "sent_bytes"; "notified" 1 for a notification, with
// "report_usage" 1 where it could be asked to tell whether it copied, and then
// "copied" (1 on loopback); "received_bytes"; "equal".
func uringTests() []functest {
	return []functest{
		{"io_uring", testUring, true},
		{"io_uring.send_zc", func(t *trial) { testUringSend(t, sys.UringOpSendZC, false) }, true},
		{"io_uring.sendmsg_zc", func(t *trial) { testUringSend(t, sys.UringOpSendmsgZC, false) }, true},
		{"io_uring.fixed_buffers", func(t *trial) { testUringSend(t, sys.UringOpSendZC, true) }, true},
	}
}

// ring is an io_uring of a few entries.
type ring struct {
	k        *calls
	fd       int
	u        *sys.Uring
	rm, sm   []byte
	ops      [64]bool
	hasProbe bool
}

func (r *ring) close() {
	for _, m := range [][]byte{r.rm, r.sm} {
		if m != nil {
			_ = r.k.Munmap(m) // nothing depends on it any more
		}
	}
	_ = r.k.CloseFD(r.fd)
}

// openRing returns the ring that the tests of a run share, and records how it
// was made in each.
func (t *trial) openRing() (*ring, bool) {
	if t.ring != nil {
		return t.ring, t.step("io_uring_setup", nil)
	}
	var p sys.UringParams
	fd, err := t.k.UringSetup(4, &p)
	if errors.Is(err, syscall.ENOMEM) {
		t.seeMemlock()
	}
	if !t.step("io_uring_setup", err) {
		return nil, false
	}
	r := &ring{k: t.k, fd: fd}
	if err := r.layOut(&p); !t.prep("mmap io_uring", err) {
		r.close()
		return nil, false
	}
	r.probe()
	t.rig.ring = r
	return r, true
}

func (r *ring) layOut(p *sys.UringParams) error {
	nr, ns, err := sys.UringSize(p)
	if err != nil {
		return err
	}
	const prot, flags = sys.ProtRead | sys.ProtWrite, sys.MapShared | sys.MapPopulate
	if r.rm, err = r.k.Mmap(r.fd, sys.UringOffSQRing, nr, prot, flags); err != nil {
		return err
	}
	if r.sm, err = r.k.Mmap(r.fd, sys.UringOffSQEs, ns, prot, flags); err != nil {
		return err
	}
	r.u, err = sys.NewUring(p, r.rm, r.sm)
	return err
}

// probe asks which opcodes the kernel knows; before Linux 5.6 it cannot say.
func (r *ring) probe() {
	// struct io_uring_probe: 16 bytes, then 8 for each opcode, of which byte 0
	// is the opcode and bit 0 of byte 2 says it is supported.
	var b [16 + 8*64]byte
	if r.k.UringReg(r.fd, sys.UringRegisterProbe, b[:], 64) != nil {
		return
	}
	r.hasProbe = true
	for i := range min(int(b[1]), 64) {
		op := b[16+8*i:]
		if int(op[0]) < len(r.ops) {
			r.ops[op[0]] = op[2]&1 != 0
		}
	}
}

// submit hands one request to the kernel.
func (r *ring) submit(e sys.UringSQE) error {
	if !r.u.Push(e) {
		return errors.New("ring is full")
	}
	for {
		n, err := r.k.UringEnter(r.fd, 1, 0, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil && n != 1 {
			err = errors.New("request not taken")
		}
		return err
	}
}

// answer waits for the next answer to a request.
func (t *trial) answer(r *ring, id uint64, d time.Duration) (sys.UringCQE, error) {
	end := time.Now().Add(d)
	for {
		// An answer of an earlier test that gave up waiting has another id.
		for {
			c, ok := r.u.Pop()
			if !ok {
				break
			}
			if c.UserData == id {
				return c, nil
			}
		}
		// Notifications are posted by work that runs as this thread leaves
		// the kernel.
		if _, err := r.k.UringEnter(r.fd, 0, 0, sys.UringEnterGetevents); err != nil && !errors.Is(err, syscall.EINTR) {
			return sys.UringCQE{}, err
		}
		left := time.Until(end)
		if left <= 0 {
			return sys.UringCQE{}, errWait
		}
		if c, ok := r.u.Pop(); ok && c.UserData == id {
			return c, nil
		}
		t.wait(r.fd, sys.PollIn, min(left, 20*time.Millisecond))
	}
}

func testUring(t *trial) {
	r, ok := t.openRing()
	if !ok {
		return
	}
	const id = 1
	err := r.submit(sys.UringSQE{Opcode: sys.UringOpNop, UserData: id})
	if !t.step("io_uring_enter", err) {
		return
	}
	c, err := t.answer(r, id, waitArrival)
	if err == nil && c.Res < 0 {
		err = syscall.Errno(-c.Res)
	}
	t.step("IORING_OP_NOP", err)
	t.seeBool("equal", err == nil)
}

// testUringSend sends one page by a zero-copy opcode, from registered memory
// if fixed, and waits for both of its answers.
func testUringSend(t *trial, op uint8, fixed bool) {
	r, ok := t.openRing()
	if !ok {
		return
	}
	if r.hasProbe {
		t.seeBool("opcode", r.ops[op])
		t.stepValue("io_uring_register PROBE", fmt.Sprintf("opcode %d: %t", op, r.ops[op]), nil)
	}
	out, in, ok := t.sharedPair()
	if !ok {
		return
	}
	mem, ok := t.memory(2 * pageSize)
	if !ok {
		return
	}
	data, room := mem[:pageSize], mem[pageSize:]
	e := sys.UringSQE{Opcode: op, Fd: int32(out), Addr: sys.Address(data), Len: pageSize}
	switch {
	case op == sys.UringOpSendmsgZC:
		e.Addr, e.Len = messageHeader(room, data), 1
	case fixed:
		if !t.registerBuffer(r, data) {
			return
		}
		e.Ioprio = sys.UringSendFixedBuf
	}
	id, notified, ok := t.uringSend(r, e)
	if !ok {
		return
	}
	got, err := t.receive(in, len(data), waitArrival)
	t.see("received_bytes", int64(len(got)))
	t.seeBool("equal", bytes.Equal(got, data))
	if err != nil {
		t.step("recv", err)
		return
	}
	if notified {
		t.ackNow(in)
		t.notification(r, id)
	}
}

// messageHeader writes struct msghdr and one iovec for data into room, and
// returns the address.
func messageHeader(room, data []byte) uint64 {
	clear(room[:80])
	iov := room[64:80]
	binary.NativeEndian.PutUint64(iov, sys.Address(data))
	binary.NativeEndian.PutUint64(iov[8:], uint64(len(data)))
	binary.NativeEndian.PutUint64(room[16:], sys.Address(iov)) // msg_iov
	binary.NativeEndian.PutUint64(room[24:], 1)                // msg_iovlen
	return sys.Address(room)
}

// registerBuffer pins memory for the ring; it is unpinned with the ring.
func (t *trial) registerBuffer(r *ring, data []byte) bool {
	var iov [16]byte
	binary.NativeEndian.PutUint64(iov[:], sys.Address(data))
	binary.NativeEndian.PutUint64(iov[8:], uint64(len(data)))
	err := t.k.UringReg(r.fd, sys.UringRegisterBuffers, iov[:], 1)
	if errors.Is(err, syscall.ENOMEM) {
		t.seeMemlock()
	}
	return t.step("io_uring_register BUFFERS", err)
}

// uringSend makes one zero-copy send and returns its id, and whether a
// notification will follow the answer.
func (t *trial) uringSend(r *ring, e sys.UringSQE) (id uint64, notified, ok bool) {
	op := fmt.Sprintf("IORING_OP %d", e.Opcode)
	if n := map[uint8]string{sys.UringOpSendZC: "IORING_OP_SEND_ZC", sys.UringOpSendmsgZC: "IORING_OP_SENDMSG_ZC"}[e.Opcode]; n != "" {
		op = n
	}
	var c sys.UringCQE
	for i, report := range []uint16{sys.UringSendReportUsage, 0} {
		e.UserData = uint64(e.Opcode)<<8 | uint64(e.Ioprio)<<4 | uint64(i) | 1<<32
		sqe := e
		sqe.Ioprio |= report
		if err := r.submit(sqe); err != nil {
			return 0, false, t.step("io_uring_enter", err)
		}
		var err error
		if c, err = t.answer(r, e.UserData, waitArrival); err != nil {
			return 0, false, t.step(op, err)
		}
		// The first kernels with the opcode refuse the request to report.
		if c.Res != -int32(syscall.EINVAL) || c.Flags&sys.UringCQEMore != 0 {
			t.seeBool("report_usage", report != 0)
			break
		}
	}
	if c.Res < 0 {
		err := syscall.Errno(-c.Res)
		if err == syscall.ENOMEM || err == syscall.ENOBUFS {
			t.seeMemlock()
		}
		return 0, false, t.step(op, err)
	}
	ok = t.count(op, int(c.Res), pageSize, nil)
	return e.UserData, c.Flags&sys.UringCQEMore != 0, ok
}

// notification waits for the word that the memory of a send is free again.
func (t *trial) notification(r *ring, id uint64) {
	n, err := t.answer(r, id, waitCompletion)
	if err == nil && n.Flags&sys.UringCQENotif == 0 {
		err = errors.New("not a notification")
	}
	t.seeBool("notified", err == nil)
	if err == nil && t.out.Seen["report_usage"] == 1 {
		t.seeBool("copied", uint32(n.Res)&sys.UringNotifCopied != 0)
	}
	t.stepValue("IORING_CQE_F_NOTIF", fmt.Sprintf("result %#x", uint32(n.Res)), err)
}
