package zctls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

func serverConfig(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"test"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

var clientConfig = &tls.Config{InsecureSkipVerify: true}

// dial returns a client that has shaken hands, and what the listener gave out for it.
func dial(t *testing.T, l net.Listener) (*tls.Conn, net.Conn) {
	t.Helper()
	out := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		} else if h, ok := c.(interface{ Handshake() error }); ok {
			_ = h.Handshake() // the client has the error, too
		}
		out <- c
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), clientConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := <-out
	if s == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	return c, s
}

// TestBothWays copies a file to a client and back, whoever encrypts on this machine.
func TestBothWays(t *testing.T) {
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	var told []*transmit.Downgrade
	o := transmit.ConnOptions{Sender: transmit.Options{OnDowngrade: func(d *transmit.Downgrade) { told = append(told, d) }}}
	l := NewListener(below, serverConfig(t), o)
	p := bytes.Repeat([]byte("0123456789abcde"), 20_000)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, s := dial(t, l)
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make(chan []byte, 1)
		go func() {
			b, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			got <- b
		}()
		z := s.(*Conn)
		if n, err := io.Copy(s, f); err != nil || n != int64(len(p)) {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := z.SendFile(t.Context(), f, 0, 10, transmit.FileOptions{}); z.Fallback() != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SendFile without the kernel: %v", err)
		}
		if err := z.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := z.Write([]byte("x")); err == nil {
			t.Error("sent after the end")
		}
		if b := <-got; !bytes.Equal(b[:len(p)], p) {
			t.Errorf("%d bytes arrived", len(b))
		}
		go func() { _, _ = c.Write(p); _ = c.CloseWrite() }()
		if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, p) {
			t.Errorf("back: %d bytes, %v", len(b), err)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		if why := z.Fallback(); (why != nil) != (transmit.KTLSAvailable() != nil) && !errors.Is(why, errors.ErrUnsupported) {
			t.Errorf("fell back: %v", why)
		} else if why != nil && (len(told) != 1 || !errors.Is(told[0], errors.ErrUnsupported)) {
			t.Errorf("told %v, want once %v", told, why)
		}
	}
}

// TestKeyLog finds the secret that crypto/tls logs, also by way of a config for the
// client, and leaves the caller's configs and log as they are.
func TestKeyLog(t *testing.T) {
	var log bytes.Buffer
	config := serverConfig(t)
	config.KeyLogWriter = &log
	outer := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config, nil }}
	for _, used := range []*tls.Config{config, outer} {
		log.Reset()
		l := &keyLog{label: transmit.ServerTrafficSecret}
		below, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, s := dial(t, tls.NewListener(below, l.listen(used)))
		_ = below.Close()
		if s.(*tls.Conn).ConnectionState().Version != tls.VersionTLS13 {
			t.Fatal("not TLS 1.3")
		}
		secret, err := l.secret()
		if err != nil {
			t.Fatal(err)
		}
		line, err := transmit.ParseKeyLogLine([]byte(log.String()[strings.Index(log.String(), transmit.ServerTrafficSecret):][:len(transmit.ServerTrafficSecret)+66+2*len(secret)]))
		if err != nil || !bytes.Equal(line.Secret, secret) {
			t.Errorf("%v, %v: not in the caller's log", line, err)
		}
		l.forget()
		if _, err := l.secret(); err == nil {
			t.Error("it is still there")
		}
		// No ticket was sent: the first record is that of what is written.
		_, _ = s.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if config.SessionTicketsDisabled || config.KeyLogWriter != &log || outer.KeyLogWriter != nil {
			t.Error("the caller's config was changed")
		}
	}
	(*keyLog)(nil).forget()
}

// TestGuard lets nothing out once it is shut.
func TestGuard(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	g := &guard{Conn: a}
	go func() {
		_, _ = g.Write([]byte("before"))
		g.shut(true)
		_, err := g.Write([]byte("after"))
		_ = a.Close()
		_ = err
	}()
	if got, err := io.ReadAll(b); err != nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
	if !g.tripped.Load() {
		t.Error("not noticed")
	}
}

// TestFailedHandshake ends connections that do not get as far.
func TestFailedHandshake(t *testing.T) {
	a, b := net.Pipe()
	_ = b.Close()
	_ = a.Close()
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	client, err := net.Dial("tcp", below.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewListener(below, serverConfig(t), transmit.ConnOptions{}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.(*Conn).CloseWrite(); err == nil {
		t.Error("CloseWrite before the handshake")
	}
	_, _ = client.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	for range 2 {
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("sent to what speaks no TLS")
		}
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("read from it")
	}
	_ = s.Close()
	_ = client.Close()
}
