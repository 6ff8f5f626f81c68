package probe

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// tlsTests attach the kernel's TLS to a throw-away connection. Seen: "attached"
// 1, and where the cipher is loaded already, "equal" 1 if what one side
// encrypted the other decrypted.
func tlsTests() []functest {
	return []functest{
		{"ktls.tx", testKTLS, false},
		{"ktls.tx_zerocopy_ro", testKTLSZerocopy, false},
	}
}

// attachTLS attaches the protocol to one socket, if the kernel has it loaded:
// asking for it when it is not would load it.
func (t *trial) attachTLS(fd int) bool {
	return t.step("setsockopt TCP_ULP tls", t.k.SetBytes(fd, sys.SolTCP, sys.TCPULP, []byte("tls")))
}

// tlsLoaded says whether TLS may be asked for. The list of what is there can be
// read in the first network namespace only; the state of the module tells as well.
func (t *trial) tlsLoaded() bool {
	ulp, ok := t.host.Sysctls["net.ipv4.tcp_available_ulp"]
	state := t.host.Modules["tls"]
	switch {
	case ok && slices.Contains(strings.Fields(ulp), "tls"), !ok && (state == "loaded" || state == "builtin"):
		return true
	case ok:
		t.see("listed", 0)
		t.notTried("net.ipv4.tcp_available_ulp does not list tls, and asking for it would make the kernel look for a module")
	case state == "available":
		t.see("listed", 0)
		t.notTried("the module tls is not loaded, and asking for it would load it")
	default:
		t.notTried("whether kernel TLS is loaded could not be read from net.ipv4.tcp_available_ulp or /proc/modules, and asking for it could load it")
	}
	return false
}

func testKTLS(t *trial) {
	if !t.tlsLoaded() {
		return
	}
	out, in, ok := t.tcpPair(loopback4)
	if !ok || !t.attachTLS(out) {
		return
	}
	t.see("attached", 1)
	// The first key for a cipher makes the kernel load what implements it.
	if !slices.Contains(t.host.Ciphers, "gcm(aes)") {
		return
	}
	key := tlsTestKey()
	if !t.step("setsockopt TLS_TX", t.k.SetBytes(out, sys.SolTLS, sys.TLSTx, key)) ||
		!t.attachTLS(in) || !t.step("setsockopt TLS_RX", t.k.SetBytes(in, sys.SolTLS, sys.TLSRx, key)) {
		return
	}
	src, ok := t.source()
	if !ok || !t.sendfile("file to TLS", out, src) {
		return
	}
	got, err := t.receive(in, testSize, waitArrival)
	t.step("recv", err)
	t.seeBool("equal", bytes.Equal(got, t.old))
}

// testKTLSZerocopy asks the kernel to send read-only files by reference. It
// accepts that also where it encrypts in software, and it does nothing there.
func testKTLSZerocopy(t *trial) {
	if !t.tlsLoaded() {
		return
	}
	out, _, ok := t.tcpPair(loopback4)
	if !ok || !t.attachTLS(out) {
		return
	}
	t.see("attached", 1)
	t.step("setsockopt TLS_TX_ZEROCOPY_RO", t.k.SetInt(out, sys.SolTLS, sys.TLSTxZerocopyRO, 1))
}

// tlsTestKey is struct tls12_crypto_info_aes_gcm_128 for TLS 1.2 with a key
// that protects nothing: it lives on a loopback connection of this test.
func tlsTestKey() []byte {
	b := binary.NativeEndian.AppendUint16(nil, 0x0303) // TLS_1_2_VERSION
	b = binary.NativeEndian.AppendUint16(b, 51)        // TLS_CIPHER_AES_GCM_128
	return append(b, make([]byte, 8+16+4+8)...)        // iv, key, salt, record sequence
}
