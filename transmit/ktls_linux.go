package transmit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// KTLS is the sending half of a TLS connection that the kernel encrypts. It holds
// nothing that would have to be closed. Its methods may be called from any goroutine.
type KTLS struct {
	raw           syscall.RawConn
	k             *socketCalls
	local, remote netip.AddrPort

	mu       sync.Mutex
	notified bool
}

func ktlsAvailable() error { return tlsLoaded(kernelSocketCalls()) }

func enableKTLS(c *net.TCPConn, k *KTLSKeys) (*KTLS, error) {
	return enableKTLSBy(c, k, kernelSocketCalls())
}

func enableKTLSBy(c *net.TCPConn, keys *KTLSKeys, k *socketCalls) (*KTLS, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	t := &KTLS{raw: raw, k: k, local: addrPortOf(c.LocalAddr()), remote: addrPortOf(c.RemoteAddr())}
	cerr := raw.Control(func(fd uintptr) { err = t.enable(int(fd), keys) })
	if err := errors.Join(cerr, err); err != nil {
		return nil, err
	}
	return t, nil
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// enable attaches the protocol, unless it is there without a key, and gives it the
// key.
func (t *KTLS) enable(fd int, keys *KTLSKeys) error {
	attached, err := t.check(fd)
	if err != nil {
		return err
	}
	if !attached {
		if err := t.k.SetBytes(fd, sys.SolTCP, sys.TCPULP, []byte("tls")); err != nil {
			return attachError(err)
		}
	}
	var b [ktlsInfoMost]byte
	info := keys.appendInfo(b[:0])
	err = t.k.SetBytes(fd, sys.SolTLS, sys.TLSTx, info)
	clear(b[:])
	switch {
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOENT):
		// tls_set_sw_offload: crypto_alloc_aead finds no such cipher; EINVAL: a version
		// or cipher that is newer than the kernel.
		return fmt.Errorf("the kernel has no %s with %s: %w: %w", keys.Version, keys.Cipher, err, errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("TLS_TX: %w", err)
	}
	return nil
}

// check looks at everything that can be wrong, before anything is changed. Even a
// TCP_ULP that fails leaves a mark: __tcp_set_ulp clears SOCK_SUPPORT_ZC.
func (t *KTLS) check(fd int) (attached bool, err error) {
	proto, err := t.k.GetInt(fd, sys.SolSocket, sys.SoProtocol)
	if err != nil {
		return false, err
	}
	if proto != sys.ProtoTCP {
		return false, fmt.Errorf("protocol %d has no TLS (Go's listeners take MPTCP unless told otherwise): %w", proto, errors.ErrUnsupported)
	}
	p, e := t.k.TCPInfo(fd)
	if e != 0 {
		return false, sys.Wrap("getsockopt TCP_INFO", e)
	}
	switch name, err := upperProtocol(t.k, fd); {
	case err != nil:
		return false, err
	case name == "tls":
		if keyed, err := transmitKeyed(t.k, fd); err != nil {
			return false, err
		} else if keyed {
			return false, fmt.Errorf("the connection has keys for sending already: %w", syscall.EBUSY)
		}
		return true, nil
	case name != "":
		return false, fmt.Errorf("the protocol %q is on top of the connection: %w", name, syscall.EEXIST)
	}
	if p.State != sys.TCPStateEstablished { // as tls_init wants it
		return false, fmt.Errorf("the connection is not established, or the peer has closed its half: %w", syscall.ENOTCONN)
	}
	return false, tlsLoaded(t.k)
}

// upperProtocol returns the name of the protocol on top of a TCP connection, "" if
// there is none; TCP_ULP.
func upperProtocol(k *socketCalls, fd int) (string, error) {
	var b [16]byte // TCP_ULP_NAME_MAX
	n, err := k.GetBytes(fd, sys.SolTCP, sys.TCPULP, b[:])
	if err != nil {
		return "", fmt.Errorf("TCP_ULP: %w", err)
	}
	name, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(name), nil
}

// transmitKeyed reports whether a socket with TLS on top has a key for sending. Only
// the head of what describes it is asked for, not the key.
func transmitKeyed(k *socketCalls, fd int) (bool, error) {
	var b [4]byte // struct tls_crypto_info
	n, err := k.GetBytes(fd, sys.SolTLS, sys.TLSTx, b[:])
	switch {
	case errors.Is(err, syscall.EBUSY): // do_tls_getsockopt_conf: none
		return false, nil
	case err != nil:
		return false, fmt.Errorf("TLS_TX: %w", err)
	}
	return n == len(b) && binary.NativeEndian.Uint16(b[:]) != 0, nil
}

// tlsLoaded returns an error if attaching TLS would make the kernel look for the
// module. The list can be read in the first network namespace only; tls_stat is in
// each, from Linux 5.5 on (tls_proc_init).
func tlsLoaded(k *socketCalls) error {
	const list = "/proc/sys/net/ipv4/tcp_available_ulp"
	b, err := k.ReadFile(list)
	if err == nil {
		if slices.Contains(strings.Fields(string(b)), "tls") {
			return nil
		}
		return fmt.Errorf("net.ipv4.tcp_available_ulp does not list tls: the kernel has it not loaded (modprobe tls) or was built without (CONFIG_TLS): %w", errors.ErrUnsupported)
	}
	if _, err2 := k.ReadFile(tlsCounters); err2 == nil {
		return nil
	} else if errors.Is(err2, fs.ErrPermission) {
		err = err2
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("whether the kernel has it loaded cannot be read: %w", err)
	}
	return fmt.Errorf("neither net.ipv4.tcp_available_ulp nor tls_stat says that the kernel has it loaded: %w", errors.ErrUnsupported)
}

func attachError(err error) error {
	if errors.Is(err, syscall.ENOENT) { // unloaded just now
		err = fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return fmt.Errorf("TCP_ULP: %w", err)
}

// CloseNotify tells the peer, by TLS's alert close_notify, that nothing more follows:
// an end of the connection without it may be anybody's doing. What a sender kept back
// with MSG_MORE goes out before. Only the first call sends it; no application data may
// be sent after. It waits for room in the send buffer, for as long as the write
// deadline of the connection lets it.
func (t *KTLS) CloseNotify() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.notified {
		return nil
	}
	alert := [2]byte{1, 0} // warning, close_notify; RFC 8446, 6
	var control [sys.TLSRecordControl]byte
	message := sys.TLSRecordType(&control, sys.TLSAlert)
	iov := sys.AppendIovec(nil, alert[:])
	var n int
	var e syscall.Errno
	err := t.raw.Write(func(fd uintptr) bool {
		for {
			n, e = t.k.Sendmsg(int(fd), iov, message, sys.MsgDontwait|sys.MsgNosignal)
			if e != syscall.EINTR {
				return e != syscall.EAGAIN
			}
		}
	})
	runtime.KeepAlive(&alert)
	switch {
	case err != nil:
		return fmt.Errorf("transmit: close_notify: %w", err)
	case e != 0:
		return fmt.Errorf("transmit: close_notify: %w", sys.Wrap("sendmsg", e))
	case n != len(alert):
		return fmt.Errorf("transmit: close_notify: %w", io.ErrShortWrite)
	}
	t.notified = true
	return nil
}

// ZerocopyFiles makes a network device that encrypts read files where they are in the
// page cache (TLS_TX_ZEROCOPY_RO, Linux 5.19), instead of from a copy. A file that
// changes before the peer has acknowledged it breaks the connection then, as a record
// that is sent again is another one: Senders made after this send by sendfile what
// FileOptions.Immutable promises, and copy the rest.
//
// The kernel takes the option as well where it encrypts by itself, to no effect; here
// that is an error that matches errors.ErrUnsupported. Who encrypts the kernel says to
// CAP_NET_ADMIN alone: without it the error matches fs.ErrPermission.
func (t *KTLS) ZerocopyFiles() error {
	if err := t.zerocopyFiles(); err != nil {
		return fmt.Errorf("transmit: TLS_TX_ZEROCOPY_RO: %w", err)
	}
	return nil
}

func (t *KTLS) zerocopyFiles() error {
	none := fmt.Errorf("no device encrypts this connection: %w", errors.ErrUnsupported)
	if !devicesEncrypt(t.k) {
		return none
	}
	how, err := t.k.FindTLS(t.local, t.remote)
	switch {
	case err != nil:
		return err
	case how.Transmit == 0:
		return fmt.Errorf("the kernel does not say whether a device encrypts, which it does with CAP_NET_ADMIN: %w", fs.ErrPermission)
	case how.Transmit != sys.TLSTransmitDevice:
		return none
	}
	cerr := t.raw.Control(func(fd uintptr) {
		err = t.k.SetInt(int(fd), sys.SolTLS, sys.TLSTxZerocopyRO, 1)
	})
	return errors.Join(cerr, err)
}
