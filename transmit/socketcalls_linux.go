package transmit

import (
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// socketCalls is the seam between a Sender and the kernel: one system call each,
// no decision.
type socketCalls struct {
	Send     func(fd int, p []byte, flags int) (int, syscall.Errno)
	Sendmsg  sendmsg
	Writev   func(fd int, v []sys.Iovec) (int, syscall.Errno)
	Errqueue func(fd int, control []byte) (int, syscall.Errno)
	OutQueue func(fd int) (int, syscall.Errno)
	InQueue  func(fd int) (int, syscall.Errno)
	NotSent  func(fd int) (int, syscall.Errno)
	Memory   func(fd int) (sys.SockMem, syscall.Errno)
	TCPInfo  func(fd int) (sys.TCPProgress, syscall.Errno)
	FindTCP  func(local, remote netip.AddrPort) (sys.TCPSocket, error)
	FindTLS  func(local, remote netip.AddrPort) (sys.TLSSocket, error)
	SetInt   func(fd, level, option, value int) error
	GetInt   func(fd, level, option int) (int, error)
	SetBytes func(fd, level, option int, value []byte) error
	GetBytes func(fd, level, option int, value []byte) (int, error)
	ReadFile func(name string) ([]byte, error) // of /proc
	Poll     func(fd int, events int16, timeoutMS int) (int16, error)
	Now      func() time.Time
}

type sendmsg = func(fd int, v []sys.Iovec, control []byte, flags int) (int, syscall.Errno)

func kernelSocketCalls() *socketCalls {
	return &socketCalls{
		Send: sys.TrySend, Sendmsg: sys.TrySendmsg, Writev: sys.TryWritev, Errqueue: sys.TryErrqueue,
		OutQueue: sys.OutQueue, InQueue: sys.InQueue, NotSent: sys.NotSent, Memory: sys.SocketMemory, TCPInfo: sys.TCPInfo, FindTCP: sys.FindTCP, FindTLS: sys.FindTLS,
		SetBytes: sys.SetsockoptBytes, GetBytes: sys.GetsockoptBytes, ReadFile: os.ReadFile,
		SetInt: sys.SetsockoptInt, GetInt: sys.GetsockoptInt, Poll: sys.Poll, Now: time.Now,
	}
}
