package sys

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// TestFindTCP looks for both ends of connections over loopback.
func TestFindTCP(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(l.Addr().(*net.TCPAddr).Port))
		to := l.Addr().String()
		if listen == ":0" { // an IPv6 socket with an IPv4 address
			to = port.String()
		}
		a, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write(make([]byte, 12345)); err != nil {
			t.Fatal(err)
		}
		near, far := a.LocalAddr().(*net.TCPAddr).AddrPort(), a.RemoteAddr().(*net.TCPAddr).AddrPort()
		if s, err := FindTCP(far, near); err != nil || s.Unread != 12345 || s.State != 1 {
			t.Errorf("%s: the far end: %+v, %v", listen, s, err)
		}
		if _, err := b.Read(make([]byte, 345)); err != nil {
			t.Fatal(err)
		}
		if s, err := FindTCP(far, near); err != nil || s.Unread != 12000 {
			t.Errorf("%s: the far end after reading: %+v, %v", listen, s, err)
		}
		if s, err := FindTCP(near, far); err != nil || s.Unread != 0 {
			t.Errorf("%s: the near end: %+v, %v", listen, s, err)
		}
		_ = b.(*net.TCPConn).SetLinger(0)
		b.Close()
		if s, err := FindTCP(far, near); err != nil || s.State != TCPStateListen {
			t.Errorf("%s: after the end: %+v, %v", listen, s, err)
		}
		l.Close()
		if _, err := FindTCP(far, near); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s: nobody is there: %v", listen, err)
		}
	}
}

func FuzzTCPDiagReply(f *testing.F) {
	f.Add(make([]byte, diagReplyBytes))
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = tcpDiagReply(b) })
}
