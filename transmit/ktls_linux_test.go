package transmit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestDerivedKeysOpen reads what crypto/tls sends with the keys derived from its log.
func TestDerivedKeysOpen(t *testing.T) {
	h := shakeHands(t)
	if h.keys.Cipher == CHACHA20POLY1305 {
		h.keys.Cipher = 0 // the reader of records has AES only; crypto/tls took ChaCha20
		t.Log("not AES on this processor")
		return
	}
	p := pattern(50_000)
	go func() {
		_, _ = h.server.Write(p)
		_ = h.server.CloseWrite()
	}()
	if got, err := newRecords(t, h.in, h.keys).all(); err != nil || !bytes.Equal(got, p) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// fakeTLS is a kernel that says that it has TLS, and takes keys without using them.
type fakeTLS struct {
	*socketCalls
	name     string // TCP_ULP
	keyed    bool
	zero     int // TLS_TX_ZEROCOPY_RO
	set      []string
	info     []byte
	files    map[string]string
	how      sys.TLSSocket
	howErr   error
	asked    int // FindTLS
	zerocopy int // sends with MSG_ZEROCOPY
	closed   int // records
}

func newFakeTLS() *fakeTLS {
	f := &fakeTLS{socketCalls: kernelSocketCalls(), files: map[string]string{
		"/proc/sys/net/ipv4/tcp_available_ulp": "espintcp mptcp tls\n", tlsCounters: "TlsCurrTxSw\t 7\nTlsCurrTxDevice                 \t0\n",
	}}
	k := kernelSocketCalls()
	f.GetBytes = func(fd, level, option int, b []byte) (int, error) {
		switch {
		case level == sys.SolTCP && option == sys.TCPULP:
			return copy(b, f.name+"\x00"), nil
		case level == sys.SolTLS && option == sys.TLSTx && len(b) == 4:
			if !f.keyed {
				return 0, sys.Wrap("getsockopt", syscall.EBUSY)
			}
			binary.NativeEndian.PutUint16(b, 0x0304)
			return 4, nil
		}
		return k.GetBytes(fd, level, option, b)
	}
	f.SetBytes = func(_, level, option int, b []byte) error {
		if level == sys.SolTCP && option == sys.TCPULP {
			f.set, f.name = append(f.set, string(b)), string(b)
		} else if level == sys.SolTLS && option == sys.TLSTx {
			f.set, f.info, f.keyed = append(f.set, "key"), bytes.Clone(b), true
		}
		return nil
	}
	f.GetInt = func(fd, level, option int) (int, error) {
		if level == sys.SolTLS && option == sys.TLSTxZerocopyRO {
			return f.zero, nil
		}
		return k.GetInt(fd, level, option)
	}
	f.SetInt = func(fd, level, option, v int) error {
		if level == sys.SolTLS && option == sys.TLSTxZerocopyRO {
			f.zero = v
			return nil
		}
		return k.SetInt(fd, level, option, v)
	}
	f.ReadFile = func(name string) ([]byte, error) {
		if s, ok := f.files[name]; ok {
			return []byte(s), nil
		}
		return nil, fs.ErrNotExist
	}
	f.FindTLS = func(_, _ netip.AddrPort) (sys.TLSSocket, error) { f.asked++; return f.how, f.howErr }
	f.Send = func(fd int, p []byte, flags int) (int, syscall.Errno) {
		if flags&sys.MsgZerocopy != 0 {
			f.zerocopy++
		}
		return k.Send(fd, p, flags)
	}
	f.Sendmsg = func(fd int, v []sys.Iovec, control []byte, flags int) (int, syscall.Errno) {
		if len(v) == 0 && bytes.Equal(control, sys.TLSRecordType(new([sys.TLSRecordControl]byte), sys.TLSApplicationData)) {
			f.closed++
			return 0, 0
		}
		return k.Sendmsg(fd, v, nil, flags)
	}
	return f
}

// TestEnableKTLSRefused has each thing wrong that is looked at first, and what the
// kernel itself may answer: nothing is changed where that can be helped.
func TestEnableKTLSRefused(t *testing.T) {
	const list = "/proc/sys/net/ipv4/tcp_available_ulp"
	denied := func(f *fakeTLS, of ...string) {
		read := f.ReadFile
		f.ReadFile = func(name string) ([]byte, error) {
			for _, n := range of {
				if n == name {
					return nil, fs.ErrPermission
				}
			}
			return read(name)
		}
	}
	answer := func(option int, e syscall.Errno) func(f *fakeTLS) {
		return func(f *fakeTLS) {
			set := f.SetBytes
			f.SetBytes = func(fd, level, o int, b []byte) error {
				if o == option {
					return sys.Wrap("setsockopt", e)
				}
				return set(fd, level, o, b)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(f *fakeTLS)
		want   error
		text   string
		set    string // what was set all the same
	}{
		"fine":             {change: func(*fakeTLS) {}, set: "tls key"},
		"attached":         {change: func(f *fakeTLS) { f.name = "tls" }, set: "key"},
		"keyed":            {change: func(f *fakeTLS) { f.name, f.keyed = "tls", true }, want: syscall.EBUSY},
		"another":          {change: func(f *fakeTLS) { f.name = "espintcp" }, want: syscall.EEXIST, text: "espintcp"},
		"not loaded":       {change: func(f *fakeTLS) { f.files[list] = "espintcp mptcp\n" }, want: errors.ErrUnsupported, text: "modprobe"},
		"like it":          {change: func(f *fakeTLS) { f.files[list] = "xtls\n" }, want: errors.ErrUnsupported},
		"other namespace":  {change: func(f *fakeTLS) { delete(f.files, list) }, set: "tls key"},
		"no proc":          {change: func(f *fakeTLS) { clear(f.files) }, want: errors.ErrUnsupported},
		"unreadable":       {change: func(f *fakeTLS) { denied(f, list, tlsCounters) }, want: fs.ErrPermission},
		"list unreadable":  {change: func(f *fakeTLS) { denied(f, list) }, set: "tls key"},
		"unloaded just so": {change: answer(sys.TCPULP, syscall.ENOENT), want: errors.ErrUnsupported},
		"filtered":         {change: answer(sys.TCPULP, syscall.EPERM), want: fs.ErrPermission},
		"no cipher":        {change: answer(sys.TLSTx, syscall.ENOENT), want: errors.ErrUnsupported, text: "AES-128-GCM", set: "tls"},
		"old kernel":       {change: answer(sys.TLSTx, syscall.EINVAL), want: errors.ErrUnsupported, text: "TLS 1.3", set: "tls"},
		"key filtered":     {change: answer(sys.TLSTx, syscall.EACCES), want: fs.ErrPermission, set: "tls"},
		"mptcp": {change: func(f *fakeTLS) {
			f.GetInt = func(int, int, int) (int, error) { return sys.ProtoMPTCP, nil }
		}, want: errors.ErrUnsupported, text: "MPTCP"},
		"before 4.13": {change: func(f *fakeTLS) {
			f.GetBytes = func(int, int, int, []byte) (int, error) { return 0, sys.Wrap("getsockopt", syscall.ENOPROTOOPT) }
		}, want: errors.ErrUnsupported},
		"half closed": {change: func(f *fakeTLS) {
			f.TCPInfo = func(int) (sys.TCPProgress, syscall.Errno) { return sys.TCPProgress{State: 8}, 0 }
		}, want: syscall.ENOTCONN},
	} {
		t.Run(name, func(t *testing.T) {
			out, _ := tcpPair(t)
			f := newFakeTLS()
			c.change(f)
			keys := randomKeys(TLS13, AES128GCM)
			k, err := enableKTLSBy(out, &keys, f.socketCalls)
			if (k == nil) != (c.want != nil) || !errors.Is(err, c.want) || c.text != "" && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v %s", err, c.want, c.text)
			}
			if errors.Is(err, fs.ErrPermission) && errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("both denied and unsupported: %v", err)
			}
			if got := strings.Join(f.set, " "); got != c.set {
				t.Errorf("set %q, want %q", got, c.set)
			}
			if c.want == nil && !bytes.Equal(f.info, keys.appendInfo(nil)) {
				t.Errorf("the key is %x", f.info)
			}
		})
	}
}

// TestEnableKTLSHere asks the kernel of this machine, which says yes or no, and why.
func TestEnableKTLSHere(t *testing.T) {
	out, in := tcpPair(t)
	keys := randomKeys(TLS13, AES128GCM)
	_, err := EnableKTLS(out, keys)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	if err != nil { // and the connection is as it was
		if _, err := out.Write([]byte("plain")); err != nil {
			t.Error(err)
		}
		if b := make([]byte, 5); true {
			if _, err := io.ReadFull(in, b); err != nil || string(b) != "plain" {
				t.Errorf("%q, %v", b, err)
			}
		}
	}
}

// TestSenderOnKTLS sends on a connection that claims to be encrypted: nothing is
// lent, and what a file transfer kept back goes out.
func TestSenderOnKTLS(t *testing.T) {
	p := pattern(300_000)
	for name, c := range map[string]struct {
		change func(f *fakeTLS)
		o      FileOptions
		way    Backend
		cause  string
		plain  bool
		asked  int
	}{
		"software": {way: Sendfile, cause: "kernel-crypto", plain: true},
		"splice":   {o: FileOptions{Backend: Splice}, way: Splice, cause: "kernel-crypto", plain: true},
		"mapped":   {o: FileOptions{Backend: MmapZerocopy}, way: Sendfile, cause: "ulp", plain: true},
		"device": {change: func(f *fakeTLS) {
			f.files[tlsCounters] = "TlsCurrTxDevice\t1\n"
			f.how.Transmit = sys.TLSTransmitDevice
		}, way: Sendfile, cause: "ktls-hw-copy", plain: true, asked: 1},
		"of others": {change: func(f *fakeTLS) { delete(f.files, tlsCounters); f.how.Transmit = sys.TLSTransmitSoftware; f.zero = 1 }, way: Sendfile, cause: "kernel-crypto", plain: true, asked: 1},
		"in place": {change: func(f *fakeTLS) {
			f.zero, f.how = 1, sys.TLSSocket{Transmit: sys.TLSTransmitDevice, ZerocopyFile: true}
		}, way: ReadWrite, cause: "live-source", plain: true, asked: 1},
		"in place, not told":   {change: func(f *fakeTLS) { f.zero = 1 }, way: ReadWrite, cause: "live-source", plain: true, asked: 1},
		"in place, immutable":  {change: func(f *fakeTLS) { f.zero, f.how.Transmit = 1, sys.TLSTransmitDevice }, o: FileOptions{Immutable: true}, way: Sendfile, asked: 1},
		"receives only":        {change: func(f *fakeTLS) { f.keyed = false }, way: Sendfile},
		"asked to be told not": {change: func(f *fakeTLS) { f.zero, f.howErr = 1, syscall.EPERM }, way: ReadWrite, cause: "live-source", plain: true, asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			out, in := tcpPair(t)
			f := newFakeTLS()
			f.name, f.keyed = "tls", true
			if c.change != nil {
				c.change(f)
			}
			s, err := newSender(out, Options{Threshold: 1, Backend: MsgZerocopy, OnDowngrade: func(*Downgrade) {}}, f.socketCalls)
			if err != nil {
				t.Fatal(err)
			}
			got := received(in)
			if f.keyed {
				if d, err := s.Send(t.Context(), p); err != nil || d.Backend() != Write || d.sent.Cause != "ulp" {
					t.Errorf("memory: %+v, %v", d.sent, err)
				}
			}
			s.o.Backend = ""
			d, err := s.SendFile(t.Context(), fileIn(t, t.TempDir(), p), 0, -1, c.o)
			if err != nil || d.Bytes() != int64(len(p)) || d.Backend() != c.way || d.sent.Cause != c.cause || (d.sent.PlainBytes == d.Bytes()) != c.plain {
				t.Errorf("file: %+v, %v; want %s, %q", d.sent, err, c.way, c.cause)
			}
			if f.keyed && f.zerocopy > 0 || f.asked != c.asked {
				t.Errorf("%d sends with MSG_ZEROCOPY, asked %d times", f.zerocopy, f.asked)
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			want := p
			if f.keyed {
				want = append(p[:len(p):len(p)], p...)
			}
			if b := <-got; !bytes.Equal(b, want) {
				t.Errorf("%d bytes arrived", len(b))
			}
		})
	}
}

// TestKTLSFlush ends a file after a header that said that more follows.
func TestKTLSFlush(t *testing.T) {
	out, _ := tcpPair(t)
	f := newFakeTLS()
	f.name, f.keyed = "tls", true
	s, err := newSender(out, Options{Backend: Sendfile}, f.socketCalls)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SendFile(t.Context(), fileIn(t, t.TempDir(), pattern(9000)), 0, -1, FileOptions{Header: [][]byte{pattern(9)}}); err != nil || f.closed != 0 {
		t.Errorf("a whole file: %d records closed, %v", f.closed, err)
	}
	s.calls = &calls{}
	*s.calls = kernel
	s.calls.Sendfile = func(int, int, *int64, int) (int, error) { return 0, sys.Wrap("sendfile", syscall.ENXIO) }
	if _, err := s.SendFile(t.Context(), fileIn(t, t.TempDir(), pattern(9000)), 0, -1, FileOptions{Header: [][]byte{pattern(9)}}); !errors.Is(err, syscall.ENXIO) || f.closed != 1 {
		t.Errorf("a file that fails after the header: %d records closed, %v", f.closed, err)
	}
}

// TestCloseNotify waits for room, tries again what was interrupted, and sends one alert.
func TestCloseNotify(t *testing.T) {
	out, _ := tcpPair(t)
	f := newFakeTLS()
	answers := []syscall.Errno{syscall.EINTR, syscall.EAGAIN, syscall.EPIPE, syscall.EINTR, 0}
	var sent []byte
	f.Sendmsg = func(_ int, v []sys.Iovec, control []byte, flags int) (int, syscall.Errno) {
		e := answers[0]
		answers = answers[1:]
		if e != 0 {
			return 0, e
		}
		if flags&sys.MsgMore != 0 || len(v) != 1 {
			t.Errorf("flags %#x, %d parts", flags, len(v))
		}
		sent = append(sent, control...)
		return int(v[0].Len), 0
	}
	keys := randomKeys(TLS13, AES128GCM)
	k, err := enableKTLSBy(out, &keys, f.socketCalls)
	if err != nil {
		t.Fatal(err)
	}
	_ = out.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if err := k.CloseNotify(); !errors.Is(err, os.ErrDeadlineExceeded) || len(answers) != 3 {
		t.Errorf("without room up to the deadline: %v, %d answers left", err, len(answers))
	}
	_ = out.SetWriteDeadline(time.Time{})
	if err := k.CloseNotify(); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a broken connection: %v", err)
	}
	for range 2 {
		if err := k.CloseNotify(); err != nil {
			t.Error(err)
		}
	}
	if len(answers) != 0 || len(sent) != sys.TLSRecordControl || sent[16] != sys.TLSAlert {
		t.Errorf("control %x, %d answers left", sent, len(answers))
	}
	_ = out.Close()
	k.notified = false
	if err := k.CloseNotify(); err == nil {
		t.Error("sent on a closed connection")
	}
	for _, c := range []struct {
		how  sys.TLSSocket
		stat string
		want error
	}{
		{stat: "TlsCurrTxDevice 0\n", want: errors.ErrUnsupported},
		{stat: "TlsCurrTxDevice 2\n", want: fs.ErrPermission},
		{stat: "TlsCurrTxDevice 2\n", how: sys.TLSSocket{Transmit: sys.TLSTransmitSoftware}, want: errors.ErrUnsupported},
	} {
		f.files[tlsCounters], f.how = c.stat, c.how
		if err := k.ZerocopyFiles(); !errors.Is(err, c.want) || f.zero != 0 {
			t.Errorf("%+v: %v, set to %d", c, err, f.zero)
		}
	}
}
