package transmit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// TLSVersion is a version of TLS as records name it.
type TLSVersion uint16

// The versions whose records the kernel makes; linux/tls.h, RFC 8446, 4.1.2.
const (
	TLS12 TLSVersion = 0x0303 // TLS_1_2_VERSION, Linux 4.13
	TLS13 TLSVersion = 0x0304 // TLS_1_3_VERSION, Linux 5.1
)

// String returns the usual name.
func (v TLSVersion) String() string {
	switch v {
	case TLS12:
		return "TLS 1.2"
	case TLS13:
		return "TLS 1.3"
	}
	return fmt.Sprintf("TLS version %#04x", uint16(v))
}

// TLSCipher is a cipher by the number that the kernel has for it.
type TLSCipher uint16

// The ciphers that can be handed over; linux/tls.h.
const (
	AES128GCM        TLSCipher = 51 // TLS_CIPHER_AES_GCM_128, Linux 4.13
	AES256GCM        TLSCipher = 52 // TLS_CIPHER_AES_GCM_256, Linux 5.1
	CHACHA20POLY1305 TLSCipher = 54 // TLS_CIPHER_CHACHA20_POLY1305, Linux 5.11
)

// String returns the usual name.
func (c TLSCipher) String() string {
	switch c {
	case AES128GCM:
		return "AES-128-GCM"
	case AES256GCM:
		return "AES-256-GCM"
	case CHACHA20POLY1305:
		return "CHACHA20-POLY1305"
	}
	return fmt.Sprintf("TLS cipher %d", uint16(c))
}

// sizes returns the lengths in bytes of a cipher's key, IV and salt;
// TLS_CIPHER_*_SIZE, linux/tls.h.
func (c TLSCipher) sizes() (key, iv, salt int) {
	switch c {
	case AES128GCM:
		return 16, 8, 4
	case AES256GCM:
		return 32, 8, 4
	case CHACHA20POLY1305:
		return 32, 12, 0
	}
	return 0, 0, 0
}

// KTLSKeys are what the kernel needs to encrypt one direction of a TLS connection.
// [DeriveKTLSKeys] makes those of TLS 1.3 from a secret that crypto/tls logs.
//
// Nobody else may encrypt with them from then on. Two records with the same key and
// number give their content away, and with AES-GCM the means to forge more.
type KTLSKeys struct {
	Version TLSVersion
	Cipher  TLSCipher

	// Key has 16 bytes with AES128GCM and 32 with the others.
	Key []byte
	// Salt and IV are the nonce. With AES-GCM the salt is the first 4 bytes of the
	// write IV and in TLS 1.3 IV the other 8; in TLS 1.2 IV is the explicit nonce of
	// the next record, one that was not used with this key, which the kernel counts up
	// from there. CHACHA20POLY1305 has all 12 bytes in IV, and no salt.
	IV, Salt []byte
	// RecordSequence is the number of the next record, in network byte order: 0 if
	// none was sent with this key.
	RecordSequence [8]byte
}

// String says what the keys are for, and not what they are.
func (k KTLSKeys) String() string { return fmt.Sprintf("keys for %s with %s", k.Version, k.Cipher) }

// GoString is [KTLSKeys.String], so that no format prints the keys.
func (k KTLSKeys) GoString() string { return k.String() }

// errKTLSKeys says that keys are not of the form that their cipher has.
var errKTLSKeys = errors.New("not keys for kernel TLS")

// check returns what is wrong with the keys before the kernel is asked.
func (k *KTLSKeys) check() error {
	if k.Version != TLS12 && k.Version != TLS13 {
		return fmt.Errorf("%w: %s: %w", errKTLSKeys, k.Version, syscall.EINVAL)
	}
	key, iv, salt := k.Cipher.sizes()
	if key == 0 {
		return fmt.Errorf("%w: %s: %w", errKTLSKeys, k.Cipher, syscall.EINVAL)
	}
	if len(k.Key) != key || len(k.IV) != iv || len(k.Salt) != salt {
		return fmt.Errorf("%w: %s has %d bytes of key, %d of IV and %d of salt, not %d, %d and %d: %w", errKTLSKeys, k.Cipher,
			key, iv, salt, len(k.Key), len(k.IV), len(k.Salt), syscall.EINVAL)
	}
	return nil
}

// ktlsInfoMost is the size of the largest of the structures.
const ktlsInfoMost = 4 + 12 + 32 + 4 + 8

// appendInfo appends struct tls12_crypto_info_*, which is that of TLS 1.3, too;
// linux/tls.h.
func (k *KTLSKeys) appendInfo(b []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(k.Version))
	b = binary.NativeEndian.AppendUint16(b, uint16(k.Cipher))
	b = append(b, k.IV...)
	b = append(b, k.Key...)
	b = append(b, k.Salt...)
	return append(b, k.RecordSequence[:]...)
}

// KTLSAvailable says whether the kernel has TLS loaded: nil if it has, and what keeps
// [EnableKTLS] from it otherwise. It makes no socket and loads nothing.
func KTLSAvailable() error {
	if err := ktlsAvailable(); err != nil {
		return fmt.Errorf("transmit: kernel TLS: %w", err)
	}
	return nil
}

// EnableKTLS makes the kernel encrypt what is sent on a connection from now on, with
// keys that a TLS handshake by somebody else has agreed on. What is written is then
// application data, in records of up to 16 KiB, by whatever call: [Sender.Send],
// [Sender.SendFile], [Relay], Write of the connection itself. Receiving is as before,
// still encrypted.
//
// What changes for a [Sender], which must be made after this: memory is not lent, as
// the kernel takes no MSG_ZEROCOPY on such a connection (explain ulp), and what
// sendfile and splice send is read once, by the CPU that encrypts it into new pages
// (explain kernel-crypto): [Result] counts it in PlainBytes. That is a copy less than
// encryption in the process, not zero-copy; only a device that encrypts can do
// without, see [KTLS.ZerocopyFiles].
//
// TCP_ULP cannot be taken back, so everything is checked before it: keys that are
// none (syscall.EINVAL), MPTCP, which has no TLS, a kernel without it
// (both errors.ErrUnsupported), a connection that is not established in both
// directions (syscall.ENOTCONN), one that has keys (syscall.EBUSY) or another protocol
// on top (syscall.EEXIST). The module tls is never loaded by this: where
// net.ipv4.tcp_available_ulp does not list it the error says so. The cipher is
// another matter: the kernel loads what implements it with the first key, and what it
// does not have is errors.ErrUnsupported, after which the connection goes on
// unencrypted as before, though without MSG_ZEROCOPY by io_uring.
//
// The kernel does not update keys by itself, and this package does not make it: what
// TLS 1.3 allows under one key, 2^24.5 full records of AES-GCM (RFC 8446, 5.5), is
// 388 GB, for the caller to count.
//
// Linux 4.13 with CONFIG_TLS.
func EnableKTLS(c *net.TCPConn, k KTLSKeys) (*KTLS, error) {
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	t, err := enableKTLS(c, &k)
	if err != nil {
		return nil, fmt.Errorf("transmit: kernel TLS: %w", err)
	}
	return t, nil
}
