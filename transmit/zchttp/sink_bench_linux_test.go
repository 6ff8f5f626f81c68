package zchttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// A fedConn sends to one peer, which never says anything, and has its requests from
// another.
type fedConn[C net.Conn] struct {
	Conn     C
	requests net.Conn
}

func (c fedConn[C]) Read(p []byte) (int, error)         { return c.requests.Read(p) }
func (c fedConn[C]) SetReadDeadline(t time.Time) error  { return c.requests.SetReadDeadline(t) }
func (c fedConn[C]) Write(p []byte) (int, error)        { return c.Conn.Write(p) }
func (c fedConn[C]) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(t) }
func (c fedConn[C]) LocalAddr() net.Addr                { return c.Conn.LocalAddr() }
func (c fedConn[C]) RemoteAddr() net.Addr               { return c.Conn.RemoteAddr() }
func (c fedConn[C]) Close() error                       { _ = c.requests.Close(); return c.Conn.Close() }
func (c fedConn[C]) SetDeadline(t time.Time) error      { return c.Conn.SetDeadline(t) }
func (c fedConn[C]) ReadFrom(r io.Reader) (int64, error) {
	return any(c.Conn).(io.ReaderFrom).ReadFrom(r)
}

// A onceListener has one connection.
type onceListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *onceListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *onceListener) Close() error   { close(l.done); return nil }
func (l *onceListener) Addr() net.Addr { return &net.TCPAddr{} }

// serveSink serves h to the sink, and returns what makes so many requests, one after
// another.
func serveSink(b *testing.B, sink *lab.Sink, h http.Handler, wrap func(net.Conn) net.Conn) func(path string, n int) error {
	b.Helper()
	c, err := sink.Dial(b.Context(), "tcp4")
	if err != nil {
		b.Fatal(err)
	}
	near, far := net.Pipe()
	var fed net.Conn
	switch c := wrap(c).(type) {
	case *net.TCPConn:
		fed = fedConn[*net.TCPConn]{c, near}
	case *transmit.Conn:
		fed = fedConn[*transmit.Conn]{c, near}
	}
	idle := make(chan struct{}, 1)
	l := &onceListener{make(chan net.Conn, 1), make(chan struct{})}
	l.conns <- fed
	srv := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateIdle {
			idle <- struct{}{}
		}
	}}
	go func() { _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = far.Close(); _ = srv.Close() })
	return func(path string, n int) error {
		req := "GET " + path + " HTTP/1.1\r\nHost: sink\r\n\r\n"
		for range n {
			if _, err := io.Copy(far, strings.NewReader(req)); err != nil {
				return err
			}
			<-idle
		}
		return nil
	}
}

// BenchmarkServeSink has a server send to a peer that the kernel does not copy for: what
// a byte costs the serving process, interrupts on top of it included. So is the thread
// that acknowledges for the peer, which polls: a ratio is nearer to 1 than that of the
// server alone.
//
//	go test -run '^$' -bench ServeSink -benchtime 1x ./transmit/zchttp
func BenchmarkServeSink(b *testing.B) {
	testenv.Root(b)
	sink, err := lab.NewSink(lab.Options{AckCPUs: []int{1}})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = sink.Close() })
	dir := benchSite(b)
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	b.Cleanup(func() { _ = kept.Close() })
	wrapped := func(c net.Conn) net.Conn {
		w, err := transmit.Wrap(c, transmit.ConnOptions{})
		if err != nil {
			b.Fatal(err)
		}
		return w
	}
	plain := func(c net.Conn) net.Conn { return c }
	root := os.DirFS(dir)
	std, stdFS, mapped := http.FileServer(http.Dir(dir)), http.FileServerFS(root),
		zchttp.FileServer(root, zchttp.Options{File: transmit.FileOptions{Mappings: kept}})
	for _, pair := range []struct {
		name         string
		ours, theirs http.Handler
	}{
		{"our_std", std, std}, {"our-fs_std-fs", stdFS, stdFS}, {"zchttp_std", mapped, std}, {"zchttp_std-fs", mapped, stdFS},
	} {
		for _, size := range benchSizes {
			b.Run(pair.name+"/"+size.name, func(b *testing.B) {
				way := func(ask func(string, int) error) benchpair.Way {
					return func(context.Context) (benchpair.Sample, error) {
						return benchpair.Measure(benchpair.Process, func() (int64, error) {
							return size.bytes * int64(size.requests), ask(fmt.Sprintf("/%s.bin", size.name), size.requests)
						})
					}
				}
				ways := []benchpair.Way{way(serveSink(b, sink, pair.ours, wrapped)), way(serveSink(b, sink, pair.theirs, plain))}
				for b.Loop() {
					if _, err := benchpair.Rounds(b.Context(), 2, ways...); err != nil {
						b.Fatal(err)
					}
					s, err := benchpair.Rounds(b.Context(), benchRounds, ways...)
					if err != nil {
						b.Fatal(err)
					}
					c := benchpair.Compare(s[0], s[1])
					b.ReportMetric(c.CPUPerByte.Median, "x-cpu")
					b.ReportMetric(c.CPUPerByte.High, "x-cpu-high")
					b.ReportMetric(benchpair.CPUPerByte(s[0]).Median, "cpu-ns/B")
					b.ReportMetric(c.Throughput.Median, "x-throughput")
					b.ReportMetric(c.Throughput.Low, "x-low")
				}
			})
		}
	}
}
