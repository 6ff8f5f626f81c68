package transmit

import (
	"net"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// encryption is what the kernel's TLS makes of what a Sender sends.
type encryption struct {
	on     bool
	device bool // it is a network device that encrypts
	files  bool // and reads files where they are
}

// copies reports whether the CPU reads what is sent by reference, and writes it
// elsewhere.
func (e encryption) copies() bool { return e.on && !e.files }

// cause returns why what is sent by reference is copied.
func (e encryption) cause() (id, reason string) {
	if e.device {
		return "ktls-hw-copy", "the kernel copies into the records that a device encrypts"
	}
	return "kernel-crypto", "the kernel encrypts what it sends into pages of its own"
}

// lookTLS finds out whether the kernel encrypts what is sent on the connection.
func (s *Sender) lookTLS(fd int) {
	if name, err := upperProtocol(s.k, fd); err != nil || name != "tls" {
		return
	}
	if keyed, err := transmitKeyed(s.k, fd); err == nil && !keyed {
		return
	}
	s.tls.on = true
	// Who is not told takes the option for an effect: to be wrong costs a copy.
	zero, err := s.k.GetInt(fd, sys.SolTLS, sys.TLSTxZerocopyRO)
	s.tls.files = err == nil && zero != 0
	if nc, ok := s.conn.(net.Conn); ok && (s.tls.files || devicesEncrypt(s.k)) {
		how, err := s.k.FindTLS(addrPortOf(nc.LocalAddr()), addrPortOf(nc.RemoteAddr()))
		if err == nil && how.Transmit != 0 {
			s.tls.device = how.Transmit == sys.TLSTransmitDevice
			s.tls.files = s.tls.device && (s.tls.files || how.ZerocopyFile)
		}
	}
	s.zc.refuse("ulp", "the kernel encrypts what is sent on the connection, and takes no MSG_ZEROCOPY", nil)
	s.zc.expected = true
}

// tlsCounters counts the sockets of a network namespace by who encrypts; Linux 5.5.
const tlsCounters = "/proc/thread-self/net/tls_stat"

// devicesEncrypt reports whether a device may encrypt for any connection of this
// network namespace: on most hosts none does, and nothing else need be asked.
func devicesEncrypt(k *socketCalls) bool {
	b, err := k.ReadFile(tlsCounters)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "TlsCurrTxDevice" {
			return f[1] != "0"
		}
	}
	return true
}

// chooseEncrypted does for a file what encryption asks for. A record that is sent
// again must be what it was.
func (s *Sender) chooseEncrypted() {
	fs := s.file
	if fs.way != Sendfile && fs.way != Splice {
		return
	}
	switch {
	case !s.tls.files:
		id, reason := s.tls.cause()
		s.noteCause(fs.way, fs.way, id, reason, nil, true)
	case !fs.o.Immutable:
		from := fs.way
		fs.refused |= 1<<rank(Sendfile) | 1<<rank(Splice)
		fs.way = fs.next(from)
		s.noteCause(from, fs.way, "live-source", "a device encrypts from the file itself, which may change", nil, false)
	}
}

// closeRecord sends what the kernel keeps in an open record because more was to
// follow. Removing a cork does not, nor does time: without this it would stay
// there until the next send, and be dropped when the connection is closed. An empty
// message that names its content type ends the record before it (tls_process_cmsg)
// and makes none.
func closeRecord(send sendmsg, fd int) {
	var control [sys.TLSRecordControl]byte
	_, _ = send(fd, nil, sys.TLSRecordType(&control, sys.TLSApplicationData), sys.MsgDontwait|sys.MsgNosignal)
}

// encrypts reports whether the kernel encrypts what the relay sends.
func (r *relay) encrypts() (yes bool) {
	if _, ok := r.dst.conn.(*net.TCPConn); ok {
		_ = r.dst.raw.Control(func(fd uintptr) { yes = encrypted(r.calls, int(fd)) })
	}
	return yes
}

// encrypted reports whether TLS is on top of a socket.
func encrypted(k *calls, fd int) bool {
	var b [16]byte // TCP_ULP_NAME_MAX
	n, err := k.SockoptBytes(fd, sys.SolTCP, sys.TCPULP, b[:])
	return err == nil && n >= 3 && string(b[:3]) == "tls"
}
