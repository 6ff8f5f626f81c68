package zctest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
)

// AssertFastPath has a server answer one request on loopback, and fails the test
// unless the body is sent without being copied, all but the [Head] of the response: by
// sendfile or splice, or with MSG_ZEROCOPY. It returns the body, for the test to
// compare, and goes on after a failure, which says what is likely to be behind it.
//
//	zctest.AssertFastPath(t, func(l net.Listener) error {
//		return http.Serve(l, middleware(http.FileServer(http.Dir("testdata"))))
//	}, "/big.bin")
//
// It is a test for handlers, routers and middleware: one http.ResponseWriter wrapped
// without a ReadFrom on the way, and every file is copied. The file is to be longer
// than the head.
//
// serve is called with a listener and returns when that is closed, as http.Serve and
// the Serve of an http.Server do; it may wrap it, as transmit.WrapListener does. TLS
// and HTTP/2 copy. See [Record] for what is needed.
func AssertFastPath(t testing.TB, serve func(net.Listener) error, target string) []byte {
	t.Helper()
	plain, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &remembering{Listener: plain}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	var served sync.WaitGroup
	served.Go(func() { _ = serve(l) })
	defer func() {
		transport.CloseIdleConnections()
		_ = l.Close()
		served.Wait()
	}()
	var body []byte
	calls := Record(t, func() { body, err = fetch(transport, request) })
	if err != nil {
		t.Fatalf("GET %s: %v", target, err)
	}
	v := l.look(calls)
	if complaint := v.noCopyCalls(); complaint != "" {
		t.Errorf("the body of %s, %d bytes: %s\n%s%s", target, len(body), complaint, v.calls(), v.reason())
	} else if len(body) <= Head {
		t.Errorf("the body of %s has %d bytes, which tell nothing: more than %d are needed", target, len(body), Head)
	}
	return body
}

func fetch(transport *http.Transport, request *http.Request) ([]byte, error) {
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("answered %s", response.Status)
	}
	return body, err
}

// remembering is a listener that knows what it accepted.
type remembering struct {
	net.Listener
	mu  sync.Mutex
	ids []string
}

func (l *remembering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	id, err := identify(c.(syscall.Conn))
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
	return c, nil
}

// look judges the connection of the one request.
func (l *remembering) look(calls *Calls) *sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ids) == 0 {
		return look(calls, "no connection")
	}
	return look(calls, l.ids[0])
}
