package zctest

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

// A verdict is a testing.TB that keeps what it was told.
type verdict struct {
	testing.TB
	failed, skipped bool
	text            strings.Builder
}

func (v *verdict) Helper() {}
func (v *verdict) Logf(format string, args ...any) {
	fmt.Fprintf(&v.text, format+"\n", args...)
}
func (v *verdict) Errorf(format string, args ...any) {
	v.failed = true
	v.Logf(format, args...)
}
func (v *verdict) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	runtime.Goexit()
}
func (v *verdict) Fatal(args ...any) { v.Fatalf("%s", fmt.Sprint(args...)) }
func (v *verdict) Skip(args ...any)  { v.Skipf("%s", fmt.Sprint(args...)) }
func (v *verdict) Skipf(format string, args ...any) {
	v.skipped = true
	v.Logf(format, args...)
	runtime.Goexit()
}

// judged runs an assertion on a testing.TB of its own. The test is skipped where that
// one was.
func judged(t *testing.T, assertion func(t testing.TB)) *verdict {
	t.Helper()
	v := &verdict{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		assertion(v)
	}()
	<-done
	if v.skipped {
		t.Skip(strings.TrimSpace(v.text.String()))
	}
	return v
}

// Wrappers of the kind that people write.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
	wrapped    struct{ net.Conn }
)

func TestAssertSendfile(t *testing.T) {
	const n = 300_000
	copyOf := func(dst io.Writer, src io.Reader) func() {
		return func() {
			if _, err := io.Copy(dst, src); err != nil {
				panic(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(p *Path, f *os.File) func()
		want string // of the failure; "" if it is to pass
	}{
		{"file", func(p *Path, f *os.File) func() { return copyOf(p.Conn, f) }, ""},
		{"limited", func(p *Path, f *os.File) func() { return copyOf(p.Conn, io.LimitReader(f, n)) }, ""},
		{"head and file", func(p *Path, f *os.File) func() {
			return func() {
				_, _ = p.Conn.Write(make([]byte, Head))
				copyOf(p.Conn, f)()
			}
		}, ""},
		{"long head and file", func(p *Path, f *os.File) func() {
			return func() {
				_, _ = p.Conn.Write(make([]byte, Head+1))
				copyOf(p.Conn, f)()
			}
		}, "300000 bytes were sent by sendfile or splice, and 4097 from memory"},
		{"wrapped reader", func(p *Path, f *os.File) func() { return copyOf(p.Conn, onlyReader{f}) }, "a loop of read and write of 32 KiB"},
		{"wrapped writer", func(p *Path, f *os.File) func() { return copyOf(onlyWriter{p.Conn}, f) }, "a type around net.Conn"},
		{"wrapped connection", func(p *Path, f *os.File) func() { return copyOf(wrapped{p.Conn}, f) }, "The source was wrapped"},
		{"section", func(p *Path, f *os.File) func() { return copyOf(p.Conn, io.NewSectionReader(f, 0, n)) }, "io.SectionReader"},
		{"memory", func(p *Path, f *os.File) func() {
			return func() { _, _ = p.Conn.Write(make([]byte, n)) }
		}, "it was sent from memory"},
		{"nothing", func(p *Path, f *os.File) func() { return func() {} }, "nothing was sent on the connection"},
		{"another connection", func(p *Path, f *os.File) func() { return copyOf(Copied(t).Conn, f) }, "another connection was written to"},
		{"pipe", func(p *Path, f *os.File) func() {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			go func() { _, _ = w.Write(make([]byte, n)); _ = w.Close() }()
			return copyOf(p.Conn, r)
		}, "takes no pipe as the source of sendfile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, f := Copied(t), file(t, n)
			got := judged(t, func(t testing.TB) { AssertSendfile(t, p.Conn, c.do(p, f)) })
			text := got.text.String()
			if got.failed != (c.want != "") || !strings.Contains(text, c.want) {
				t.Errorf("failed %t, want %q; it said\n%s", got.failed, c.want, text)
			}
			if c.want != "" {
				t.Log(text)
			}
		})
	}
}

// send sends n bytes of memory by the library, and waits until the kernel is done
// with them.
func send(t testing.TB, c *net.TCPConn, by transmit.Backend, n, times int) func() {
	return sendBy(t, c, transmit.Options{Backend: by}, n, times)
}

func sendBy(t testing.TB, c *net.TCPConn, o transmit.Options, n, times int) func() {
	return func() {
		s, err := transmit.NewSender(c, o)
		if err != nil {
			t.Error(err)
			return
		}
		for range times {
			sent, err := s.Send(t.Context(), make([]byte, n))
			if err == nil {
				_, err = sent.Wait(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAssertNoCopy(t *testing.T) {
	const n = 16 << 10 // which the library sends at once, without letting the buffer grow
	t.Run("loopback", func(t *testing.T) {
		p := Copied(t)
		got := judged(t, func(v testing.TB) { AssertNoCopy(v, p.Conn, send(t, p.Conn, transmit.MsgZerocopy, n, 4)) })
		if got.failed || !strings.Contains(got.text.String(), "not checked") {
			t.Errorf("failed %t: %s", got.failed, &got.text)
		}
	})
	t.Run("write", func(t *testing.T) {
		p := Copied(t)
		got := judged(t, func(v testing.TB) { AssertNoCopy(v, p.Conn, send(t, p.Conn, transmit.Write, n, 1)) })
		if !got.failed || !strings.Contains(got.text.String(), "calls that copy") {
			t.Errorf("failed %t: %s", got.failed, &got.text)
		}
	})
	t.Run("uncopied", func(t *testing.T) {
		p := Uncopied(t)
		got := judged(t, func(v testing.TB) { AssertNoCopy(v, p.Conn, send(t, p.Conn, transmit.MsgZerocopy, n, 4)) })
		if got.failed || got.text.Len() > 0 {
			t.Errorf("failed %t: %s", got.failed, &got.text)
		}
		if received, sum := p.Received(t); received != 4*n || sum != nil {
			t.Errorf("received %d bytes, %x", received, sum)
		}
	})
	t.Run("ring", func(t *testing.T) {
		if strings.HasPrefix(testenv.Kernel(t), "5.") {
			t.Skip("needs Linux 6.0, for SEND_ZC")
		}
		for _, c := range []struct {
			by   transmit.Backend
			want string
		}{{transmit.IoUringSendZC, "not checked: whether the kernel copied what"}, {transmit.IoUringSend, "bytes were sent by calls that copy"}} {
			p := Uncopied(t)
			r, err := transmit.NewRing(transmit.RingOptions{})
			if err != nil {
				t.Skipf("needs io_uring: %v", err)
			}
			var calls *Calls
			got := judged(t, func(v testing.TB) {
				calls = AssertNoCopy(v, p.Conn, sendBy(t, p.Conn, transmit.Options{Backend: c.by, Ring: r}, n, 4))
			})
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got.failed != (c.by == transmit.IoUringSend) || !strings.Contains(got.text.String(), c.want) {
				t.Errorf("%s: failed %t: %s\n%s", c.by, got.failed, &got.text, calls)
			}
			if received, _ := p.Received(t); received != 4*n {
				t.Errorf("received %d bytes", received)
			}
		}
	})
}
