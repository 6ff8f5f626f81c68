package ebpf_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A way sends all of data on a blocking socket.
type way struct {
	name string // as in the output
	send func(fd int, data []byte, size int) error
}

var ways = []way{
	{"write", sendWrite},
	{"writev", sendWritev},
	{"sendfile", sendSendfile},
	{"splice", sendSplice},
	{"vmsplice", sendVmsplice},
	{"msg_zerocopy", sendZeroCopy},
	{"io_uring_send", func(fd int, data []byte, size int) error { return sendUring(fd, data, size, uringOpSend) }},
	{"io_uring_send_zc", func(fd int, data []byte, size int) error { return sendUring(fd, data, size, sys.UringOpSendZC) }},
}

func wayOf(name string) way {
	for _, w := range ways {
		if w.name == name {
			return w
		}
	}
	panic("no way " + name)
}

// each calls fn with parts of data of at most size bytes, until all is taken.
func each(data []byte, size int, fn func(part []byte) (int, error)) error {
	for tries := 0; len(data) > 0; tries++ {
		if tries > 100_000 {
			return errors.New("it takes no end")
		}
		n, err := fn(data[:min(size, len(data))])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func sendWrite(fd int, data []byte, size int) error {
	return each(data, size, func(p []byte) (int, error) { return unix.Write(fd, p) })
}

func sendWritev(fd int, data []byte, size int) error {
	return each(data, size, func(p []byte) (int, error) {
		return unix.Writev(fd, [][]byte{p[:len(p)/2], p[len(p)/2:]})
	})
}

// memfd makes a file of data.
func memfd(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("source", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "source")
	_, err = f.Write(data)
	return f, err
}

func sendSendfile(fd int, data []byte, size int) error {
	f, err := memfd(data)
	if err != nil {
		return err
	}
	defer f.Close()
	return sendfileFrom(fd, f, len(data), size)
}

func sendfileFrom(fd int, f *os.File, total, size int) error {
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return each(make([]byte, total), size, func(p []byte) (int, error) {
		n, err := unix.Sendfile(fd, int(f.Fd()), nil, len(p))
		if err == nil && n == 0 {
			return 0, errors.New("the file ends")
		}
		return max(n, 0), err
	})
}

func sendSplice(fd int, data []byte, size int) error {
	f, err := memfd(data)
	if err != nil {
		return err
	}
	defer f.Close()
	return spliceFrom(fd, f, len(data), size)
}

func spliceFrom(fd int, f *os.File, total, size int) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return each(make([]byte, total), min(size, 64<<10), func(p []byte) (int, error) {
		n, err := unix.Splice(int(f.Fd()), nil, pipe[1], nil, len(p), 0)
		if err == nil && n == 0 {
			err = errors.New("the file ends")
		}
		if err != nil {
			return 0, err
		}
		return int(n), empty(pipe[0], fd, int(n))
	})
}

func empty(pipe, fd, n int) error {
	for n > 0 {
		m, err := unix.Splice(pipe, nil, fd, nil, n, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		n -= int(m)
	}
	return nil
}

func sendVmsplice(fd int, data []byte, size int) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	return each(data, min(size, 60<<10), func(p []byte) (int, error) {
		iov := unix.Iovec{Base: &p[0], Len: uint64(len(p))}
		n, err := unix.Vmsplice(pipe[1], []unix.Iovec{iov}, 0)
		if err != nil {
			return 0, err
		}
		return n, empty(pipe[0], fd, n)
	})
}

func sendZeroCopy(fd int, data []byte, size int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
		return err
	}
	return sendFlagged(fd, data, size)
}

func sendFlagged(fd int, data []byte, size int) error {
	tries := 0
	return each(data, size, func(p []byte) (int, error) {
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_ZEROCOPY)
		if errors.Is(err, unix.ENOBUFS) && tries < 10_000 {
			tries++
			drainErrors(fd)
			time.Sleep(100 * time.Microsecond)
			return 0, nil
		}
		return n, err
	})
}

func drainErrors(fd int) {
	oob := make([]byte, 256)
	for {
		if _, _, _, _, err := unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// control runs fn with the descriptor of a connection, in blocking mode.
func control(t testing.TB, c net.Conn, fn func(fd int) error) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if e := unix.SetNonblock(int(fd), false); e != nil {
			t.Error(e)
		}
		if e := fn(int(fd)); e != nil {
			t.Error(e)
		}
		if e := unix.SetNonblock(int(fd), true); e != nil {
			t.Error(e)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sent waits until the peer has acknowledged everything.
func sent(t testing.TB, c net.Conn) {
	t.Helper()
	left := -1
	for range 2000 {
		control(t, c, func(fd int) (err error) {
			left, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			return err
		})
		if left == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%d bytes are not acknowledged", left)
}
