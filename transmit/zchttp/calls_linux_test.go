package zchttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
	"github.com/zcprobe/zcprobe/transmit/zctest"
)

// A client keeps one connection.
type client struct {
	c net.Conn
	r *bufio.Reader
}

func dialHTTP(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, bufio.NewReader(c)}
}

// do sends a request and returns the response with its body.
func (c *client) do(request string) (*http.Response, []byte, error) {
	if _, err := io.WriteString(c.c, request); err != nil {
		return nil, nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp, body, err
}

// tracked keeps the connection of the last request.
func tracked(h http.Handler, last *atomic.Value) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(zchttp.ConnOf(r.Context()))
		h.ServeHTTP(w, r)
	})
}

// idling is for a server of one connection: the channel has something when it has
// sent all of a response.
func idling() (chan struct{}, func(*http.Server)) {
	idle := make(chan struct{}, 100)
	return idle, func(srv *http.Server) {
		srv.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateIdle {
				idle <- struct{}{}
			}
		}
	}
}

// moved counts the bytes that calls on a connection moved to it, by the name of the
// call, and how many calls there were.
func moved(t *testing.T, all *zctest.Calls, conn any) (bytes map[string]int64, calls int) {
	t.Helper()
	on, err := all.On(conn.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	bytes = map[string]int64{}
	for _, c := range on.List {
		if strings.HasPrefix(c.Target.Name, "socket:") && c.Bytes > 0 {
			bytes[c.Name] += c.Bytes
			calls++
		}
	}
	return bytes, calls
}

// TestCallsOfShapes looks at the system calls that move a body.
func TestCallsOfShapes(t *testing.T) {
	s := newSite(t)
	const path, size = "/f3145733", 3<<20 + 5
	for _, sh := range shapes {
		t.Run(sh.name, func(t *testing.T) {
			ours := sh.ours
			if ours == nil {
				ours = sh.plain
			}
			var last atomic.Value
			idle, set := idling()
			c := dialHTTP(t, serveOurs(t, tracked(ours(s), &last), transmit.ConnOptions{}, set))
			get := func() {
				_, body, err := c.do(request("GET", path))
				<-idle
				if err != nil || !bytes.Equal(body, s.files[path]) {
					t.Errorf("%d bytes, %v", len(body), err)
				}
			}
			get()
			by, _ := moved(t, zctest.Record(t, get), last.Load())
			written := by["write"] + by["sendto"] + by["writev"] + by["sendmsg"]
			switch sent := by["sendfile"]; {
			case sh.way == transmit.Sendfile && (sent < size-2*512 || written > 2*512+512):
				t.Errorf("%v, want all but the first bytes by sendfile", by)
			case sh.way != transmit.Sendfile && sent > 0:
				t.Errorf("%v: sendfile where nothing was to be gained, the table is to be corrected", by)
			}
		})
	}
}

// TestCallsOfFileServer looks at what is done otherwise than by net/http.
func TestCallsOfFileServer(t *testing.T) {
	s := newSite(t)
	var last atomic.Value
	idle, set := idling()
	c := dialHTTP(t, serveOurs(t, tracked(fileServer(os.DirFS(s.dir)), &last), transmit.ConnOptions{}, set))
	do := func(r string) (map[string]int64, int) {
		var body []byte
		var err error
		all := zctest.Record(t, func() { _, body, err = c.do(r); <-idle })
		if err != nil {
			t.Fatal(err)
		}
		if len(body) == 0 {
			t.Fatal("no body")
		}
		return moved(t, all, last.Load())
	}
	do(request("GET", "/f1"))
	for _, n := range []int{1, 1 << 10, 3 << 10} {
		if by, calls := do(request("GET", fmt.Sprintf("/f%d.txt", n))); calls != 1 || by["write"] < int64(n) {
			t.Errorf("%d bytes took %d calls, %v, want one", n, calls, by)
		}
	}
	by, _ := do(request("GET", "/f3145733", "Range: bytes=100-1000099,2000000-2999999"))
	if by["sendfile"] < 2e6-512 || by["write"] > 2048 {
		t.Errorf("two ranges went by %v", by)
	}
}

// TestCallsOfABody has a body lent.
func TestCallsOfABody(t *testing.T) {
	p := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	b := transmit.NewBody(p)
	var last atomic.Value
	var copies reports
	idle, set := idling()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		zchttp.ServeBody(w, r, "image.png", time.Time{}, b)
	})
	c := dialHTTP(t, serveOurs(t, tracked(h, &last), transmit.ConnOptions{
		Sender: transmit.Options{Backend: transmit.MsgZerocopy, Threshold: 16 << 10}, OnCopy: copies.add,
	}, set))
	get := func() {
		_, body, err := c.do(request("GET", "/"))
		if <-idle; err != nil || !bytes.Equal(body, p) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	}
	get()
	all := zctest.Record(t, get)
	on, err := all.On(last.Load().(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	var lent, written int64
	for _, call := range on.List {
		switch {
		case !strings.HasPrefix(call.Target.Name, "socket:"):
		case call.ZeroCopy:
			lent += call.Bytes
		case call.Bytes > 0:
			written += call.Bytes
		}
	}
	// While a reader waits on the connection, as net/http's does, some is copied.
	if lent < int64(len(p))*3/4 || lent+written > int64(len(p))+1024 {
		t.Errorf("%d bytes were lent and %d written:\n%s", lent, written, on)
	}
	if err := b.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, body, err := c.do(request("GET", "/")); err != nil || bytes.Contains(body, []byte("0123")) {
		t.Errorf("after its release: %q, %v", body, err)
	}
	copies.check(t, transmit.MsgZerocopy, false)
}
