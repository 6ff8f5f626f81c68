//go:build !linux

package transmit

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// copyBuffers holds *[]byte of copyBytes.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBytes)
	return &b
}}

const copyBytes = 128 << 10

// connStream has nothing: package net makes the copies.
type connStream struct{}

func (connStream) init(syscall.Conn) error { return nil }

func (connStream) access(c syscall.Conn) (syscall.RawConn, error) { return c.SyscallConn() }

type fileCopy struct{}

func (x *copying) bind() {}

// delegated is why the way is not known.
const delegated = "package net or os makes the copy on this operating system"

// takeFile leaves the copy to package net.
func (c *Conn) takeFile(x *copying, f *os.File, at, most int64) (int64, bool, error) {
	rf, ok := c.nc.(io.ReaderFrom)
	if !ok || at >= 0 {
		return 0, false, nil
	}
	x.came("file")
	n, err := rf.ReadFrom(&io.LimitedReader{R: f, N: most})
	x.add(Result{Bytes: n}, delegated)
	return n, true, err
}

func (c *Conn) takeStream(*copying, io.Reader, int64) (int64, bool, error) { return 0, false, nil }

// takeFile leaves the copy to package os.
func (f *fileSink) takeFile(x *copying, src *os.File, at, most int64) (int64, bool, error) {
	if at >= 0 {
		return 0, false, nil
	}
	x.came("file")
	n, err := f.File.ReadFrom(&io.LimitedReader{R: src, N: most})
	x.add(Result{Bytes: n}, delegated)
	return n, true, err
}

func (f *fileSink) takeStream(*copying, io.Reader, int64) (int64, bool, error) { return 0, false, nil }

func (c *Conn) takeBody(x *copying, b *Body, at, n int64) (int64, error) {
	return x.writeBody(b, at, n)
}

func (s *Sender) writeCopied([]byte) (int, error, bool) { return 0, nil, false }

func (s *Sender) lending() bool { return false }

func (s *Sender) closeNow() error { return s.conn.(io.Closer).Close() }
