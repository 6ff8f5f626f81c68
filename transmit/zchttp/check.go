package zchttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// checkBytes is the size of the body that CheckMiddleware has sent: nothing of
// net/http buffers as much.
const checkBytes = 256 << 10

// CheckMiddleware serves a file through a middleware, on loopback, and returns what is
// wrong with it, for tests:
//
//	if err := zchttp.CheckMiddleware(logging); err != nil {
//		t.Error(err)
//	}
//
// The file is to arrive as it is, and all of it but the first bytes by the connection's
// ReadFrom. It is served by http.ServeContent, as it is or, where the middleware goes by
// Unwrap and PassThrough, by [Wrap], which the error says: then handlers have to use
// [Wrap], [Copy] or [FileServer]. If that is wanted, errors.Is(err, [ErrNeedsWrap]) is
// what a test lets pass.
func CheckMiddleware(middleware func(http.Handler) http.Handler) error {
	f, want, err := checkFile()
	if err != nil {
		return fmt.Errorf("zchttp: check: %w", err)
	}
	defer f.Close()
	defer os.Remove(f.Name())

	var obstacle error
	run := func(wrap bool) error {
		obstacle = nil
		return checkServed(want, middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if wrap {
				w = Wrap(w)
			}
			_, obstacle = ReaderFrom(w)
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				panic(err)
			}
			http.ServeContent(w, r, "check.bin", time.Time{}, f)
		})))
	}
	plain := run(false)
	if !errors.Is(plain, errCopied) {
		return plain
	}
	if err := run(true); err == nil {
		return fmt.Errorf("zchttp: %w", ErrNeedsWrap)
	}
	if obstacle != nil {
		return fmt.Errorf("%w: %w", plain, obstacle)
	}
	return plain
}

// ErrNeedsWrap says that a middleware lets the body go round it, but only handlers
// that use this package find the way.
var ErrNeedsWrap = errors.New("the middleware hides ReadFrom from net/http, and shows it to zchttp.Wrap alone")

var errCopied = errors.New("the body was written by the process")

// checkFile makes a file to serve.
func checkFile() (*os.File, []byte, error) {
	content := make([]byte, checkBytes)
	for i := range content {
		content[i] = byte(i*31 + i>>8)
	}
	f, err := os.CreateTemp("", "zchttp-check-*")
	if err != nil {
		return nil, nil, err
	}
	if _, err := f.Write(content); err != nil {
		return nil, nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, content, nil
}

// checkServed serves h on loopback for one request.
func checkServed(want []byte, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("zchttp: check: %w", err)
	}
	watched := &watchedListener{Listener: l}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: checkTimeout}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(watched) }()
	status, got, err := fetch(l.Addr().String())
	// When the server has ended all that was handed over is counted.
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	if serr := srv.Shutdown(ctx); serr != nil {
		return fmt.Errorf("zchttp: check: the server does not end: %w", errors.Join(serr, srv.Close()))
	}
	<-served
	switch {
	case err != nil:
		return fmt.Errorf("zchttp: check: %w", err)
	case status != http.StatusOK:
		return fmt.Errorf("zchttp: check: the response has status %d", status)
	case !bytes.Equal(got, want):
		return fmt.Errorf("zchttp: check: the %d bytes that arrived are not the %d of the file", len(got), len(want))
	}
	if n := watched.handed.Load(); n < checkBytes-2*sniffBytes {
		return fmt.Errorf("zchttp: %w: ReadFrom of the connection was called for %d of %d bytes", errCopied, n, len(want))
	}
	return nil
}

const checkTimeout = 10 * time.Second

// fetch gets / over a connection of its own.
func fetch(addr string) (int, []byte, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(checkTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("after %s bytes of %s: %w", strconv.Itoa(len(body)), resp.Header.Get("Content-Length"), err)
	}
	return resp.StatusCode, body, nil
}

// A watchedListener counts what its connections were handed by ReadFrom.
type watchedListener struct {
	net.Listener
	handed atomic.Int64
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{c, l}, nil
}

type watchedConn struct {
	net.Conn
	l *watchedListener
}

// ReadFrom counts what comes from a file.
func (c *watchedConn) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(c.Conn, src)
	if l, ok := src.(*io.LimitedReader); ok {
		if _, file := l.R.(*os.File); file {
			c.l.handed.Add(n)
		}
	}
	return n, err
}
