package transmit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// handshake is a TLS 1.3 connection after its handshake, with what is below it.
type handshake struct {
	server, client *tls.Conn
	out, in        *net.TCPConn // below server and client
	keys           KTLSKeys     // that the server sends with
}

func shakeHands(t *testing.T) handshake {
	t.Helper()
	var h handshake
	h.out, h.in = tcpPair(t)
	var log secretLog
	h.server = tls.Server(h.out, &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, KeyLogWriter: &log})
	h.client = tls.Client(h.in, &tls.Config{InsecureSkipVerify: true})
	fail := make(chan error, 1)
	go func() { fail <- h.client.Handshake() }()
	if err := errors.Join(h.server.Handshake(), <-fail); err != nil {
		t.Fatal(err)
	}
	var err error
	h.keys, err = DeriveKTLSKeys(h.server.ConnectionState().CipherSuite, log.secret(ServerTrafficSecret))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// secretLog keeps the secrets of one connection.
type secretLog struct {
	mu    sync.Mutex
	lines []KeyLogLine
}

func (l *secretLog) Write(p []byte) (int, error) {
	line, err := ParseKeyLogLine(p)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return len(p), nil
}

func (l *secretLog) secret(label string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line.Label == label {
			return line.Secret
		}
	}
	return nil
}

func testCertificate(t testing.TB) tls.Certificate {
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// records reads TLS records of AES-GCM, as RFC 5288 and RFC 8446, 5.2 have them: what
// the kernel makes is checked by other code than its own.
type records struct {
	in   io.Reader
	keys KTLSKeys
	seal cipher.AEAD
	seq  uint64
}

func newRecords(t *testing.T, in io.Reader, k KTLSKeys) *records {
	t.Helper()
	b, err := aes.NewCipher(k.Key)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return &records{in: in, keys: k, seal: g, seq: binary.BigEndian.Uint64(k.RecordSequence[:])}
}

// next returns the next record's content type and content.
func (r *records) next() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(r.in, body); err != nil {
		return 0, nil, err
	}
	nonce := append(bytes.Clone(r.keys.Salt), r.keys.IV...)
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], r.seq)
	r.seq++
	if r.keys.Version == TLS13 {
		for i := range number {
			nonce[4+i] ^= number[i]
		}
		p, err := r.seal.Open(nil, nonce, body, head[:])
		if err != nil || len(p) == 0 {
			return 0, nil, fmt.Errorf("record %d: %w", r.seq-1, err)
		}
		return p[len(p)-1], p[:len(p)-1], nil
	}
	copy(nonce[4:], body)
	additional := append(number[:], head[0], 3, 3)
	additional = binary.BigEndian.AppendUint16(additional, uint16(len(body)-8-16))
	p, err := r.seal.Open(nil, nonce, body[8:], additional)
	return head[0], p, err
}

// all reads up to the alert, and returns the content.
func (r *records) all() ([]byte, error) {
	var all []byte
	for {
		typ, p, err := r.next()
		switch {
		case err != nil:
			return all, err
		case typ == sys.TLSAlert && bytes.Equal(p, []byte{1, 0}):
			return all, nil
		case typ != sys.TLSApplicationData || len(p) == 0 || len(p) > 16384:
			return all, fmt.Errorf("a record of type %d with %d bytes", typ, len(p))
		}
		all = append(all, p...)
	}
}

func randomKeys(v TLSVersion, c TLSCipher) KTLSKeys {
	key, iv, salt := c.sizes()
	k := KTLSKeys{Version: v, Cipher: c, Key: make([]byte, key), IV: make([]byte, iv), Salt: make([]byte, salt), RecordSequence: [8]byte{7: 255}}
	_, _ = rand.Read(k.Key)
	_, _ = rand.Read(k.IV)
	_, _ = rand.Read(k.Salt)
	return k
}
