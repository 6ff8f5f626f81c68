package ebpf_test

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const uringOpSend = 26

// sendUring sends by io_uring, one request at a time.
func sendUring(fd int, data []byte, size int, op uint8) error {
	return sendUringFlagged(fd, data, size, op, 0)
}

const (
	uringOpWrite  = 23 // IORING_OP_WRITE
	uringByWorker = 16 // IOSQE_ASYNC: a worker thread of the kernel's does it
)

// sendUringFlagged sets flags of the requests, too, and so does sendUring without any.
func sendUringFlagged(fd int, data []byte, size int, op, flags uint8) error {
	p := sys.UringParams{}
	ring, err := sys.UringSetup(8, &p)
	if err != nil {
		return err
	}
	defer unix.Close(ring)
	ringSize, sqeSize, err := sys.UringSize(&p)
	if err != nil {
		return err
	}
	rings, err := unix.Mmap(ring, sys.UringOffSQRing, ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(rings)
	sqes, err := unix.Mmap(ring, sys.UringOffSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(sqes)
	u, err := sys.NewUring(&p, rings, sqes)
	if err != nil {
		return err
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&data[0])
	notes := 0
	next := func() (sys.UringCQE, error) {
		for {
			if c, ok := u.Pop(); ok {
				return c, nil
			}
			if _, err := sys.UringEnter(ring, 0, 1, sys.UringEnterGetevents); err != nil && !errors.Is(err, unix.EINTR) {
				return sys.UringCQE{}, err
			}
		}
	}
	err = each(data, size, func(part []byte) (int, error) {
		sqe := sys.UringSQE{Opcode: op, Flags: flags, Fd: int32(fd), Addr: uint64(uintptr(unsafe.Pointer(&part[0]))), Len: uint32(len(part))}
		if op != uringOpWrite {
			sqe.OpFlags = unix.MSG_WAITALL
		}
		u.Push(sqe)
		if _, err := sys.UringEnter(ring, 1, 0, 0); err != nil {
			return 0, err
		}
		for {
			c, err := next()
			switch {
			case err != nil:
				return 0, err
			case c.Flags&sys.UringCQENotif != 0:
				notes--
				continue
			case c.Res < 0:
				return 0, fmt.Errorf("io_uring: %w", unix.Errno(-c.Res))
			}
			if c.Flags&sys.UringCQEMore != 0 {
				notes++
			}
			return int(c.Res), nil
		}
	})
	for err == nil && notes > 0 {
		if _, err = next(); err == nil {
			notes--
		}
	}
	return err
}
