package transmit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// The labels of the secrets that TLS 1.3 derives the keys of application data from,
// as key logs have them (RFC 9850, and the KeyLogWriter of crypto/tls).
const (
	ClientTrafficSecret = "CLIENT_TRAFFIC_SECRET_0"
	ServerTrafficSecret = "SERVER_TRAFFIC_SECRET_0"
)

// KeyLogLine is a line of a key log.
type KeyLogLine struct {
	Label        string
	ClientRandom [32]byte // which connection it is of
	Secret       []byte
}

// String says what the secret is for, and not what it is.
func (l KeyLogLine) String() string { return fmt.Sprintf("%s of %x", l.Label, l.ClientRandom[:4]) }

// GoString is [KeyLogLine.String], so that no format prints the secret.
func (l KeyLogLine) GoString() string { return l.String() }

var errKeyLog = errors.New("not a line of a key log")

// mostSecret is the longest secret, in bytes: RSA lines of old logs aside, that of
// the largest hash.
const mostSecret = 64

// ParseKeyLogLine reads a line as the KeyLogWriter of crypto/tls gets it: the label,
// 32 bytes of client random and a secret of 16 to 64 bytes, in hexadecimal, each after
// one space. It may end with a newline. Errors do not tell what the line says.
func ParseKeyLogLine(line []byte) (KeyLogLine, error) {
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	label, rest, ok := bytes.Cut(line, []byte(" "))
	random, secret, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 {
		return KeyLogLine{}, fmt.Errorf("%w: it has no three words", errKeyLog)
	}
	l := KeyLogLine{Label: string(label)}
	for _, c := range label {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return KeyLogLine{}, fmt.Errorf("%w: its label is none", errKeyLog)
		}
	}
	if len(label) == 0 || len(random) != 2*len(l.ClientRandom) || len(secret) < 2*16 || len(secret) > 2*mostSecret {
		return KeyLogLine{}, fmt.Errorf("%w: words of %d, %d and %d bytes", errKeyLog, len(label), len(random), len(secret))
	}
	if _, err := hex.Decode(l.ClientRandom[:], random); err != nil {
		return KeyLogLine{}, fmt.Errorf("%w: its client random is not hexadecimal", errKeyLog)
	}
	l.Secret = make([]byte, len(secret)/2)
	if _, err := hex.Decode(l.Secret, secret); err != nil || len(secret)%2 != 0 {
		return KeyLogLine{}, fmt.Errorf("%w: its secret is not hexadecimal", errKeyLog)
	}
	return l, nil
}

// DeriveKTLSKeys returns the keys for a direction of a TLS 1.3 connection, of which
// nothing was sent yet: RecordSequence is 0. suite is the cipher suite as
// tls.ConnectionState has it, secret that of the direction, [ServerTrafficSecret] for
// what the server sends. (RFC 8446, 7.3.)
//
// A server of crypto/tls sends session tickets before anything else, as records of
// their own, unless tls.Config.SessionTicketsDisabled is set: their number has to
// be added where it is not.
func DeriveKTLSKeys(suite uint16, secret []byte) (KTLSKeys, error) {
	k := KTLSKeys{Version: TLS13}
	var h func() hash.Hash
	switch suite { // RFC 8446, B.4
	case 0x1301: // TLS_AES_128_GCM_SHA256
		k.Cipher, h = AES128GCM, sha256.New
	case 0x1302: // TLS_AES_256_GCM_SHA384
		k.Cipher, h = AES256GCM, sha512.New384
	case 0x1303: // TLS_CHACHA20_POLY1305_SHA256
		k.Cipher, h = CHACHA20POLY1305, sha256.New
	default:
		return KTLSKeys{}, fmt.Errorf("transmit: cipher suite %#04x is none of TLS 1.3 that the kernel has: %w", suite, errors.ErrUnsupported)
	}
	if want := h().Size(); len(secret) != want {
		return KTLSKeys{}, fmt.Errorf("transmit: a secret of %d bytes for cipher suite %#04x, which has %d: %w", len(secret), suite, want, errKTLSKeys)
	}
	keyBytes, _, salt := k.Cipher.sizes()
	key, err := expandLabel(h, secret, "key", keyBytes)
	if err != nil {
		return KTLSKeys{}, fmt.Errorf("transmit: %w", err)
	}
	iv, err := expandLabel(h, secret, "iv", 12)
	if err != nil {
		return KTLSKeys{}, fmt.Errorf("transmit: %w", err)
	}
	k.Key, k.Salt, k.IV = key, iv[:salt], iv[salt:]
	return k, nil
}

// expandLabel is HKDF-Expand-Label without a context; RFC 8446, 7.1.
func expandLabel(h func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := string([]byte{byte(n >> 8), byte(n), byte(len(label))}) + label + "\x00"
	return hkdf.Expand(h, secret, info, n)
}
