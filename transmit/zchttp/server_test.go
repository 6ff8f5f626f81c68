package zchttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// TestServerKeepsWorking has all of http.Server's hooks called with our connections.
func TestServerKeepsWorking(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wrapped := transmit.WrapListener(l, transmit.ConnOptions{})
	type key struct{}
	var mu sync.Mutex
	var states []http.ConnState
	closed := make(chan struct{})
	srv := &http.Server{
		BaseContext: func(l net.Listener) context.Context {
			ctx := context.WithValue(context.Background(), http.ServerContextKey, "")
			return context.WithValue(ctx, key{}, l)
		},
		ConnContext: zchttp.ConnContext,
		ConnState: func(c net.Conn, s http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := c.(*transmit.Conn); !ok {
				t.Errorf("the connection is a %T", c)
			}
			if states = append(states, s); s == http.StateClosed {
				close(closed)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if l, ok := r.Context().Value(key{}).(*transmit.Listener); !ok || l.NetListener() == nil {
				t.Error("the listener of the context is another")
			}
			if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || a.String() != l.Addr().String() {
				t.Errorf("the local address is %v", a)
			}
			if r.RemoteAddr != zchttp.ConnOf(r.Context()).RemoteAddr().String() {
				t.Errorf("the remote address is %s", r.RemoteAddr)
			}
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(w, r.Body)
		}),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(wrapped) }()
	for range 2 {
		resp, err := http.Post("http://"+l.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("body", 50_000)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(body) != strings.Repeat("body", 50_000) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	<-closed
	want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle, http.StateClosed}
	mu.Lock()
	if !slices.Equal(states, want) {
		t.Errorf("states %v", states)
	}
	mu.Unlock()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if wrapped.Plain() != 0 {
		t.Error("connections were not wrapped")
	}
}

// TestUnwrappable serves connections that are no sockets.
func TestUnwrappable(t *testing.T) {
	near, far := net.Pipe()
	once := make(chan net.Conn, 1)
	once <- near
	var told []*transmit.Downgrade
	l := transmit.WrapListener(chanListener(once), transmit.ConnOptions{Sender: transmit.Options{
		OnDowngrade: func(d *transmit.Downgrade) { told = append(told, d) },
	}})
	c, err := l.Accept()
	if err != nil || c != near || l.Plain() != 1 || len(told) != 1 || !errors.Is(told[0], errors.ErrUnsupported) {
		t.Errorf("%v, %v, %v", c, err, told)
	}
	_ = far.Close()
}

type chanListener chan net.Conn

func (l chanListener) Accept() (net.Conn, error) { return <-l, nil }
func (l chanListener) Close() error              { return nil }
func (l chanListener) Addr() net.Addr            { return &net.UnixAddr{} }

// TestHijack sends on a connection that a handler takes away.
func TestHijack(t *testing.T) {
	s := newSite(t)
	var copies reports
	addr := serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, err := zchttp.NewRecorder(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_ = rw.Flush()
		f := s.open(r)
		defer f.Close()
		if _, err := io.Copy(nc, f); err != nil {
			t.Error(err)
		}
	}), transmit.ConnOptions{OnCopy: copies.add})
	got := ask(t, addr, request("GET", "/f262144"))
	if _, body, _ := bytes.Cut(got, []byte("\r\n\r\n")); !bytes.Equal(body, s.files["/f262144"]) {
		t.Errorf("%d bytes", len(body))
	}
	copies.check(t, transmit.Sendfile, false)
}

// TestEncrypted serves over TLS and HTTP/2, and says why it copies.
func TestEncrypted(t *testing.T) {
	s := newSite(t)
	var mu sync.Mutex
	var why []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := zchttp.Explain(w, r)
		mu.Lock()
		why = append(why, err.Error())
		mu.Unlock()
		fileServer(os.DirFS(s.dir)).ServeHTTP(zchttp.NewRecorder(w), r)
	})
	for _, c := range []struct {
		name  string
		tls   bool
		http2 bool
		want  string
	}{
		{"TLS", true, false, "TLS: "}, {"HTTP/2", true, true, "HTTP/2: "}, {"h2c", false, true, "HTTP/2: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(h)
			_ = srv.Listener.Close()
			srv.Listener = transmit.WrapListener(l, transmit.ConnOptions{})
			var get *http.Client
			if c.tls {
				srv.EnableHTTP2 = c.http2
				srv.StartTLS()
				get = srv.Client()
			} else {
				var p http.Protocols
				p.SetUnencryptedHTTP2(true)
				srv.Config.Protocols = &p
				srv.Start()
				get = &http.Client{Transport: &http.Transport{Protocols: &p}}
			}
			defer srv.Close()
			for _, path := range []string{"/f1024", "/f3145733"} {
				resp, err := get.Get(srv.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || !bytes.Equal(body, s.files[path]) || (resp.ProtoMajor == 2) != c.http2 {
					t.Errorf("%s%s: %d bytes, %v", resp.Proto, path, len(body), err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if got := why[len(why)-1]; !strings.HasPrefix(got, c.want) {
				t.Errorf("it is said that %s", got)
			}
		})
	}
}

// TestExplain has the reasons for what is served over plain HTTP.
func TestExplain(t *testing.T) {
	var got error
	with := func(wrap func(http.ResponseWriter) http.ResponseWriter, length string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			got = zchttp.Explain(wrap(w), r)
		})
	}
	same := func(w http.ResponseWriter) http.ResponseWriter { return w }
	ours := func(l net.Listener) net.Listener { return transmit.WrapListener(l, transmit.ConnOptions{}) }
	for _, c := range []struct {
		name    string
		h       http.Handler
		listen  func(net.Listener) net.Listener
		request string
		want    string
	}{
		{"fast", with(same, "0"), ours, request("GET", "/", closing), ""},
		{"HTTP/1.0", with(same, ""), ours, "GET / HTTP/1.0\r\n\r\n", ""},
		{"recorder", with(func(w http.ResponseWriter) http.ResponseWriter { return zchttp.NewRecorder(w) }, "0"), ours, request("GET", "/", closing), ""},
		{"HEAD", with(same, "0"), ours, request("HEAD", "/", closing), "HEAD"},
		{"chunks", with(same, ""), ours, request("GET", "/", closing), "Content-Length"},
		{"bad length", with(same, "x"), ours, request("GET", "/", closing), "Content-Length"},
		{"other listener", with(same, "0"), nil, request("GET", "/", closing), "*net.TCPConn"},
		{"wrapper", with(func(w http.ResponseWriter) http.ResponseWriter { return &unwrappable{w} }, "0"), ours, request("GET", "/", closing), "*zchttp_test.unwrappable"},
		{"struct", with(func(w http.ResponseWriter) http.ResponseWriter { return struct{ http.ResponseWriter }{w} }, "0"), ours,
			request("GET", "/", closing), "struct { http.ResponseWriter }"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := serve(t, c.h, c.listen)
			got = errors.New("not asked")
			ask(t, addr, c.request)
			if c.want == "" {
				if got != nil {
					t.Errorf("it is said that %v", got)
				}
				return
			}
			var o *zchttp.Obstacle
			if !errors.As(got, &o) || o.Where != c.want {
				t.Errorf("it is said that %v", got)
			}
		})
	}
}
