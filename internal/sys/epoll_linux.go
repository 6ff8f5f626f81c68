package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Events of epoll(7).
const (
	EpollIn      = unix.EPOLLIN
	EpollOut     = unix.EPOLLOUT
	EpollErr     = unix.EPOLLERR
	EpollOneshot = unix.EPOLLONESHOT
	EpollET      = 1 << 31 // EPOLLET; unix.EPOLLET is negative
)

// An EpollEvent says what happened to the descriptor that was added under Key.
type EpollEvent struct {
	Events uint32
	Key    uint64
}

// EpollCreate returns a new epoll instance that never blocks.
func EpollCreate() (int, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, Wrap("epoll_create1", err)
	}
	// An epoll descriptor is readable when it has events; os.NewFile hands only
	// non-blocking ones to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, Wrap("fcntl O_NONBLOCK", err)
	}
	return fd, nil
}

// EpollAdd adds a descriptor. Errors and hang-ups come unasked.
func EpollAdd(epfd, fd int, events uint32, key uint64) error {
	return Wrap("epoll_ctl ADD", epollCtl(epfd, unix.EPOLL_CTL_ADD, fd, events, key))
}

// EpollMod arms a descriptor again.
func EpollMod(epfd, fd int, events uint32, key uint64) error {
	return Wrap("epoll_ctl MOD", epollCtl(epfd, unix.EPOLL_CTL_MOD, fd, events, key))
}

// EpollDel removes a descriptor.
func EpollDel(epfd, fd int) error {
	return Wrap("epoll_ctl DEL", epollCtl(epfd, unix.EPOLL_CTL_DEL, fd, 0, 0))
}

func epollCtl(epfd, op, fd int, events uint32, key uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(key)), Pad: int32(uint32(key >> 32))}
	return unix.EpollCtl(epfd, op, fd, &e)
}

// EpollWait returns the events that are there, without waiting, up to 64.
func EpollWait(epfd int, dst []EpollEvent) ([]EpollEvent, error) {
	var b [64]unix.EpollEvent
	n, err := unix.EpollWait(epfd, b[:], 0)
	if err == syscall.EINTR {
		return dst, nil
	}
	for _, e := range b[:max(n, 0)] {
		dst = append(dst, EpollEvent{Events: e.Events, Key: uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32})
	}
	return dst, Wrap("epoll_wait", err)
}
