package transmit_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zctls"
)

func ktlsServer(t *testing.T) *tls.Config {
	t.Helper()
	testenv.Guest(t)
	testenv.KernelTLS(t, "gcm(aes)")
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

// TestGuestKTLSHTTP serves files by net/http over connections that the kernel
// encrypts, ranges and bodies that come back among them.
func TestGuestKTLSHTTP(t *testing.T) {
	config := ktlsServer(t)
	dir := t.TempDir()
	sizes := []int{0, 1, 16383, 16384, 16385, 1<<20 + 7}
	for _, n := range sizes {
		p := make([]byte, n)
		_, _ = rand.Read(p)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	below, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var reports []transmit.CopyReport
	var conns []*zctls.Conn
	srv := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				// All of it first: net/http drops what is not read when the answer begins.
				b, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(b)
				return
			}
			http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, c.(*zctls.Conn))
			return ctx
		},
	}
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(zctls.NewListener(below, config, transmit.ConnOptions{OnCopy: func(r transmit.CopyReport) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, r)
		}}))
	}()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	at := "https://" + below.Addr().String() + "/"
	get := func(r *http.Request) []byte {
		t.Helper()
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, n := range sizes {
		want, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest("GET", at+fmt.Sprint(n), nil)
		if got := get(r); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came, or others", n, len(got))
		}
		if n > 10_000 {
			r.Header.Set("Range", fmt.Sprintf("bytes=1000-%d", n-1000))
			if got := get(r); !bytes.Equal(got, want[1000:n-999]) {
				t.Errorf("range of %d bytes: %d came, or others", n, len(got))
			}
		}
		r, _ = http.NewRequest("POST", at, bytes.NewReader(want))
		if got := get(r); !bytes.Equal(got, want) {
			t.Errorf("%d bytes sent there and back: %d came, or others", n, len(got))
		}
	}
	client.CloseIdleConnections()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
	sent := 0
	for _, r := range reports {
		if r.Way == transmit.Sendfile && r.Cause == "kernel-crypto" && r.PlainBytes == r.Bytes {
			sent++
		}
	}
	if sent < 7 {
		t.Errorf("%d copies by sendfile: %+v", sent, reports)
	}
	for _, c := range conns {
		if err := c.Fallback(); err != nil {
			t.Error(err)
		}
	}
}

// TestGuestKTLSClient sends to a server of crypto/tls, and reads what it echoes.
func TestGuestKTLSClient(t *testing.T) {
	config := ktlsServer(t)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	tcp, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := zctls.Client(tcp.(*net.TCPConn), &tls.Config{InsecureSkipVerify: true}, transmit.ConnOptions{})
	p := make([]byte, 3<<20+5)
	_, _ = rand.Read(p)
	go func() {
		if _, err := c.Write(p); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := c.Write(p); err == nil {
			t.Error("sent after the end")
		}
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, p) {
		t.Errorf("%d bytes came back, or others: %v", len(got), err)
	}
	if err := c.Fallback(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// clientLog keeps the secret that a client sends with.
type clientLog struct{ secret []byte }

func (l *clientLog) Write(p []byte) (int, error) {
	if line, err := transmit.ParseKeyLogLine(p); err == nil && line.Label == transmit.ClientTrafficSecret {
		l.secret = line.Secret
	}
	return len(p), nil
}

// TestGuestKTLSKeyUpdate has a client ask for new keys, with and without wanting an
// answer, and send what is no record: nothing that crypto/tls has to say to that goes
// out.
func TestGuestKTLSKeyUpdate(t *testing.T) {
	config := ktlsServer(t)
	for name, c := range map[string]struct {
		record func(seal func(typ byte, p ...byte) []byte) []byte
		ends   bool
	}{
		"answer wanted": {func(seal func(byte, ...byte) []byte) []byte { return seal(22, 24, 0, 0, 1, 1) }, true}, // RFC 8446, 4.6.3
		"no answer":     {func(seal func(byte, ...byte) []byte) []byte { return seal(22, 24, 0, 0, 1, 0) }, false},
		"no record":     {func(seal func(byte, ...byte) []byte) []byte { return bytes.Repeat([]byte{23, 3, 3, 0, 32}, 20) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			below, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer below.Close()
			tcp, err := net.Dial("tcp4", below.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := zctls.NewListener(below, config, transmit.ConnOptions{}).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var log clientLog
			client := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &log})
			defer client.Close()
			fail := make(chan error, 1)
			go func() { fail <- s.(*zctls.Conn).Handshake() }()
			if err := errors.Join(client.Handshake(), <-fail); err != nil {
				t.Fatal(err)
			}
			keys, err := transmit.DeriveKTLSKeys(client.ConnectionState().CipherSuite, log.secret)
			if err != nil {
				t.Fatal(err)
			}
			seal := func(typ byte, p ...byte) []byte {
				b, _ := aes.NewCipher(keys.Key)
				g, _ := cipher.NewGCM(b)
				p = append(p, typ)
				head := []byte{23, 3, 3, 0, byte(len(p) + 16)}
				return g.Seal(head, append(bytes.Clone(keys.Salt), keys.IV...), p, head)
			}
			if _, err := tcp.Write(c.record(seal)); err != nil {
				t.Fatal(err)
			}
			_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, err = s.Read(make([]byte, 1))
			if _, werr := s.Write([]byte("still here")); (werr != nil) != c.ends || c.ends && !errors.Is(werr, zctls.ErrKeyUpdate) {
				t.Errorf("read: %v, write: %v", err, werr)
			}
			_ = s.Close()
			_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
			got, err := io.ReadAll(client)
			if want := map[bool]string{false: "still here"}[c.ends]; string(got) != want || err != nil { // to crypto/tls a bare end is one, too
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}
