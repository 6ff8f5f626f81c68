package zchttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// clientEnv makes the test binary the client of a benchmark: a process of its own, so
// that its CPU time is not the server's.
const clientEnv = "ZCHTTP_TEST_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(clientEnv) != "" {
		runtime.GOMAXPROCS(1)
		if err := benchClient(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// benchClient obeys lines of "address path connections requests", and answers with the
// bytes of body that came.
func benchClient(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var addr, path string
		var conns, requests int
		if _, err := fmt.Sscan(lines.Text(), &addr, &path, &conns, &requests); err != nil {
			return err
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var total int64
		var failed error
		for i := range conns {
			all.Go(func() {
				got, err := askAll(addr, path, (requests+i)/conns) // all of them together
				mu.Lock()
				defer mu.Unlock()
				if total += got; err != nil {
					failed = err
				}
			})
		}
		if all.Wait(); failed != nil {
			return failed
		}
		if _, err := fmt.Fprintln(out, total); err != nil {
			return err
		}
	}
	return lines.Err()
}

// askAll makes n requests on a connection of its own: what the kernel finds out about a
// connection, the size of its window say, differs between two that are alike by more
// than servers do, and must not stay with one of them.
func askAll(addr, path string, n int) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	return (&benchConn{c: c, raw: raw}).ask(path, n)
}

// benchConn receives as cheaply as it can: bodies are thrown away in the kernel.
type benchConn struct {
	c    net.Conn
	raw  syscall.RawConn
	head [4096]byte
}

func (c *benchConn) ask(path string, n int) (total int64, err error) {
	req := []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\n\r\n")
	for range n {
		if _, err := c.c.Write(req); err != nil {
			return total, err
		}
		got, length, end := 0, int64(0), -1
		for end < 0 {
			n, err := c.c.Read(c.head[got:])
			if err != nil {
				return total, err
			}
			got += n
			end = bytes.Index(c.head[:got], []byte("\r\n\r\n"))
		}
		head := string(c.head[:end+2])
		_, after, ok := strings.Cut(head, "\r\nContent-Length: ")
		value, _, _ := strings.Cut(after, "\r\n")
		if length, err = strconv.ParseInt(value, 10, 64); err != nil || !ok || !strings.HasPrefix(head, "HTTP/1.1 200") {
			return total, fmt.Errorf("a response of %q", head)
		}
		total += length
		if err := c.discard(length - int64(got-end-4)); err != nil {
			return total, err
		}
	}
	return total, nil
}

// discard throws n bytes away without copying them: MSG_TRUNC, tcp(7).
func (c *benchConn) discard(n int64) error {
	for n > 0 {
		var got int
		var err error
		if werr := c.raw.Read(func(fd uintptr) bool {
			got, _, err = unix.Recvfrom(int(fd), trash[:min(n, int64(len(trash)))], unix.MSG_TRUNC)
			return err != unix.EAGAIN
		}); werr != nil {
			return werr
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case got == 0:
			return io.ErrUnexpectedEOF
		}
		n -= int64(max(got, 0))
	}
	return nil
}

// trash is what discard has as a buffer, and the kernel does not touch.
var trash [1 << 20]byte

// startClient starts the client of a benchmark. The function has it make requests, and
// returns the bytes of body.
func startClient(b testing.TB) func(addr, path string, conns, requests int) (int64, error) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), clientEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	answers := bufio.NewReader(out)
	return func(addr, path string, conns, requests int) (int64, error) {
		if _, err := fmt.Fprintln(in, addr, path, conns, requests); err != nil {
			return 0, err
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("the client: %w", err)
		}
		return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	}
}
