package zchttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// leaks has the test end with as many descriptors and goroutines as there are now,
// when all that it starts later has ended. What a process keeps, a poller and a
// watcher, is started before.
func leaks(t *testing.T) {
	t.Helper()
	t.Run("before", serveOnce)
	fds, gos := count(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		var f, g int
		for range 500 {
			http.DefaultClient.CloseIdleConnections()
			if f, g = count(t), runtime.NumGoroutine(); f <= fds && g <= gos {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<16)
		t.Errorf("%d descriptors where there were %d, %d goroutines where there were %d\n%s", f, fds, g, gos, buf[:runtime.Stack(buf, true)])
	})
}

// serveOnce starts what a process keeps.
func serveOnce(t *testing.T) {
	p := bytes.Repeat([]byte("x"), 1<<20)
	b := transmit.NewBody(p)
	addr := serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zchttp.ServeBody(w, r, "x", time.Time{}, b)
	}), transmit.ConnOptions{Sender: transmit.Options{Backend: transmit.MsgZerocopy}})
	ask(t, addr, request("GET", "/", closing))
	if err := b.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// ways are the options that send files and bodies in each way there is.
func ways(t *testing.T) map[string]transmit.ConnOptions {
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	t.Cleanup(func() { _ = kept.Close() })
	quiet := func(*transmit.Downgrade) {}
	return map[string]transmit.ConnOptions{
		"sendfile": {Sender: transmit.Options{OnDowngrade: quiet}},
		"mapped": {Sender: transmit.Options{Backend: transmit.MsgZerocopy, OnDowngrade: quiet, DrainTimeout: 2 * time.Second},
			File: transmit.FileOptions{Mappings: kept, Backend: transmit.MmapZerocopy}},
		"read": {File: transmit.FileOptions{Snapshot: true}, Sender: transmit.Options{OnDowngrade: quiet}},
	}
}

// TestShortFile makes a file shorter when its length was announced: the connection is
// cut, whatever way the file goes, and nothing is made up.
func TestShortFile(t *testing.T) {
	const size, short = 32 << 20, 20 << 20
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			leaks(t)
			c := dialHTTP(t, serveOurs(t, zchttp.FileServer(os.DirFS(dir), zchttp.Options{}), o))
			if _, err := io.WriteString(c.c, request("GET", "/f")); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil || resp.ContentLength != size {
				t.Fatalf("%v, %v", resp, err)
			}
			got := make([]byte, 1<<20)
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, short); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(resp.Body)
			got = append(got, rest...)
			if len(got) >= size || err == nil {
				t.Errorf("%d bytes of a file of %d, %v: the connection was not cut", len(got), short, err)
			}
			if n := min(len(got), short); !bytes.Equal(got[:n], content[:n]) {
				t.Error("wrong bytes")
			}
			if _, err := c.c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection goes on: %v", err)
			}
			_ = c.c.Close()
		})
	}
}

// TestShortTail makes a file a little shorter while the last of it is under way: the
// page that holds its end has zeros after it, which go out. The peer must not take
// that for the file.
func TestShortTail(t *testing.T) {
	const size, cut = 6<<20 + 2500, 2000
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			content := bytes.Repeat([]byte("content."), size/8+1)[:size]
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			leaks(t)
			idle := make(chan struct{})
			c := dialHTTP(t, serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				zchttp.FileServer(os.DirFS(dir), zchttp.Options{}).ServeHTTP(w, r)
				close(idle)
			}), o))
			if _, err := io.WriteString(c.c, request("GET", "/f")); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			// Read until what is left fits into the buffers of the sockets, or not yet.
			got := make([]byte, size-2<<20)
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size-cut); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(resp.Body)
			<-idle
			got = append(got, rest...)
			// By sendfile the zeros of the page are those that net/http sends, too.
			if err == nil && !bytes.Equal(got, content) && name != "sendfile" {
				t.Errorf("%d bytes with zeros were a response", len(got))
			}
		})
	}
}

// TestReplacedFile replaces a file between requests and while it is sent, by rename:
// each response is one of the two, whole.
func TestReplacedFile(t *testing.T) {
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			publish := func(i int) {
				p := bytes.Repeat([]byte{byte(i)}, 600<<10+i)
				if err := os.WriteFile(path+".new", p, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			publish(0)
			var copies reports
			o.OnCopy = copies.add
			c := dialHTTP(t, serveOurs(t, zchttp.FileServer(os.DirFS(dir), zchttp.Options{File: o.File}), o))
			for i := range 20 {
				if _, err := io.WriteString(c.c, request("GET", "/f")); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				publish(i + 1)
				body, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.Equal(body, bytes.Repeat([]byte{byte(i)}, 600<<10+i)) {
					t.Fatalf("response %d: %d bytes, %v", i, len(body), err)
				}
			}
			copies.check(t, map[string]transmit.Backend{"sendfile": transmit.Sendfile, "mapped": transmit.MmapZerocopy, "read": transmit.ReadWrite}[name], false)
		})
	}
}

// TestPanickingHandler has handlers end in the middle of a body.
func TestPanickingHandler(t *testing.T) {
	s := newSite(t)
	const path = "/f3145733"
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			b := transmit.NewBody(s.files[path])
			addr := serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f := s.open(r)
				defer f.Close()
				setLength(w, f)
				br := b.NewReader()
				defer br.Close()
				if _, err := io.CopyN(w, f, 1<<20); err != nil {
					t.Error(err)
				}
				_, _ = br.Seek(1<<20, io.SeekStart)
				if _, err := io.CopyN(w, br, 1<<20); err != nil {
					t.Error(err)
				}
				panic("on purpose")
			}), o)
			for range 5 {
				got := ask(t, addr, request("GET", path))
				_, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
				if len(body) != 2<<20 || !bytes.Equal(body, s.files[path][:2<<20]) {
					t.Errorf("%d bytes before the panic, want %d", len(body), 2<<20)
				}
			}
			if err := b.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVanishingClients closes connections in the middle of ranges, with and without a
// reset: all memory comes back, and is what it was for those who stay.
func TestVanishingClients(t *testing.T) {
	s := newSite(t)
	const path = "/f3145733"
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: 4 << 20, MaxBytes: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			buf, err := pool.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			buf.SetLen(copy(buf.Bytes(), s.files[path]))
			b := transmit.BufferBody(buf)
			files := zchttp.FileServer(os.DirFS(s.dir), zchttp.Options{File: o.File})
			addr := serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "memory" {
					zchttp.ServeBody(w, r, "x", time.Time{}, b)
				} else {
					files.ServeHTTP(w, r)
				}
			}), o)
			var all sync.WaitGroup
			for i := range 24 {
				all.Go(func() { vanish(t, addr, path, i) })
			}
			all.Go(func() {
				for range 5 {
					for _, q := range []string{"", "?memory"} {
						got := ask(t, addr, request("GET", path+q, closing))
						if _, body, _ := bytes.Cut(got, []byte("\r\n\r\n")); !bytes.Equal(body, s.files[path]) {
							t.Errorf("who stays has %d bytes", len(body))
						}
					}
				}
			})
			all.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := b.Release(ctx); err != nil && !errors.Is(err, transmit.ErrAbandoned) {
				t.Error(err)
			}
			if err := pool.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// vanish asks for something, reads some of it and goes.
func vanish(t *testing.T, addr, path string, i int) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if i%4 < 2 {
		path += "?memory"
	}
	ranges := fmt.Sprintf("Range: bytes=%d-,%d-%d", i*1000, i, i+1<<20)
	if i%3 == 0 {
		ranges, _, _ = strings.Cut(ranges, ",")
	}
	_, _ = io.WriteString(c, request("GET", path, ranges))
	_, _ = io.CopyN(io.Discard, c, int64(i*20_000))
	if i%2 == 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

// TestSlowClients serves many who read little by little.
func TestSlowClients(t *testing.T) {
	s := newSite(t)
	const path = "/f3145733"
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			addr := serveOurs(t, zchttp.FileServer(os.DirFS(s.dir), zchttp.Options{}), o)
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
						return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10) })
					}}
					c, err := d.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					_, _ = io.WriteString(c, request("GET", path, closing))
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Error(err)
						return
					}
					var got []byte
					p := make([]byte, 40_000+i*1000)
					for err == nil {
						var n int
						n, err = resp.Body.Read(p)
						got = append(got, p[:n]...)
						if len(got)%7 == 0 {
							time.Sleep(time.Millisecond)
						}
					}
					if err != io.EOF || !bytes.Equal(got, s.files[path]) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			all.Wait()
		})
	}
}

// TestManyConnections keeps hundreds of connections, and uses them again and again.
func TestManyConnections(t *testing.T) {
	s := newSite(t)
	for name, o := range ways(t) {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			addr := serveOurs(t, zchttp.FileServer(os.DirFS(s.dir), zchttp.Options{}), o)
			var all sync.WaitGroup
			conns := make([]*client, 200)
			for i := range conns {
				conns[i] = dialHTTP(t, addr)
			}
			for i, c := range conns {
				all.Go(func() {
					for k := range 6 {
						path := fmt.Sprintf("/f%d", siteSizes[(i+k)%(len(siteSizes)-1)])
						resp, body, err := c.do(request("GET", path))
						if err != nil || !bytes.Equal(body, s.files[path]) || resp.StatusCode != http.StatusOK {
							t.Errorf("%s: %d bytes, %v", path, len(body), err)
							return
						}
					}
				})
			}
			all.Wait()
			for _, c := range conns {
				_ = c.c.Close()
			}
		})
	}
}
