package testenv

import (
	"encoding/binary"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tlsAlgorithms names the kernel's ciphers of TLS 1.3, and the bytes that describe a key
// of each; linux/tls.h.
var tlsAlgorithms = map[string]struct{ number, bytes int }{
	"gcm(aes)":                   {51, 40},
	"rfc7539(chacha20,poly1305)": {54, 56},
}

// KernelTLS skips the test where the kernel has no TLS, has it not loaded, or has not
// the algorithm, "gcm(aes)" or "rfc7539(chacha20,poly1305)": with what is loaded or,
// where the machine does so, loads itself with the first key.
func KernelTLS(t testing.TB, algorithm string) {
	t.Helper()
	const list = "/proc/sys/net/ipv4/tcp_available_ulp"
	b, err := os.ReadFile(list)
	if err != nil || !slices.Contains(strings.Fields(string(b)), "tls") {
		t.Skip("needs kernel TLS, in net.ipv4.tcp_available_ulp")
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	a := tlsAlgorithms[algorithm]
	info := binary.NativeEndian.AppendUint16(nil, 0x0304)
	info = binary.NativeEndian.AppendUint16(info, uint16(a.number))
	info = append(info, make([]byte, a.bytes-len(info))...)
	var attach, key error
	if err := raw.Control(func(fd uintptr) {
		attach = unix.SetsockoptString(int(fd), unix.SOL_TCP, unix.TCP_ULP, "tls")
		key = unix.SetsockoptString(int(fd), unix.SOL_TLS, 1, string(info)) // TLS_TX
	}); err != nil {
		t.Fatal(err)
	}
	switch {
	case attach != nil:
		t.Fatalf("TCP_ULP: %v", attach)
	case key == unix.ENOENT || key == unix.EINVAL: // EINVAL: older than the cipher or TLS 1.3
		t.Skipf("needs kernel TLS with %s", algorithm)
	case key != nil:
		t.Fatalf("TLS_TX: %v", key)
	}
}
