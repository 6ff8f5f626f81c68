package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
)

// sinkCount is what the programs of a sink count.
type sinkCount struct{ *lab.Sink }

func (s sinkCount) arrived(protocol string, from netip.AddrPort) uint64 {
	flows, err := s.Flows()
	if err != nil {
		return 0
	}
	for _, f := range flows {
		if f.Network == protocol && f.Sender == from {
			return f.Bytes
		}
	}
	return 0
}

// tally is bytes by where they come from.
type tally struct {
	mu    sync.Mutex
	bytes map[string]uint64
}

func (t *tally) add(protocol string, from netip.AddrPort, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes == nil {
		t.bytes = map[string]uint64{}
	}
	t.bytes[protocol+from.String()] += uint64(max(n, 0))
}

func (t *tally) arrived(protocol string, from netip.AddrPort) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes[protocol+from.String()]
}

// A reader is a program that reads what comes to a port.
type reader struct {
	tally
	tcp  []net.Listener
	udp  []net.PacketConn
	work sync.WaitGroup

	open map[net.Conn]bool // with tally.mu
}

// read makes the peer of a place one that reads.
func (p *place) read(at *room, e end) error {
	r := &reader{open: map[net.Conn]bool{}}
	p.later(r.close)
	p.to, p.count = e.addrs(), r
	return at.Do(func() error {
		if err := r.listen(p.to.v4, p.multipath); err != nil {
			return err
		}
		err := r.listen(p.to.v6, p.multipath)
		if errors.Is(err, syscall.EADDRNOTAVAIL) || sys.Unsupported(err) {
			p.to.v6, err = netip.Addr{}, nil // no IPv6
		}
		return err
	})
}

// listen reads what comes to an address of the thread's namespace.
func (r *reader) listen(addr netip.Addr, multipath bool) error {
	where := netip.AddrPortFrom(addr, discard).String()
	var plain net.ListenConfig
	plain.SetMultipathTCP(multipath)
	l, err := plain.Listen(context.Background(), "tcp", where)
	if err != nil {
		return err
	}
	r.tcp = append(r.tcp, l)
	c, err := net.ListenPacket("udp", where)
	if err != nil {
		return err
	}
	r.udp = append(r.udp, c)
	r.work.Go(func() { r.accept(l) })
	r.work.Go(func() { r.datagrams(c) })
	return nil
}

func (r *reader) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		r.mu.Lock()
		r.open[c] = true
		r.mu.Unlock()
		r.work.Go(func() { r.stream(c) })
	}
}

func (r *reader) stream(c net.Conn) {
	from := addrPort(c.RemoteAddr())
	b := make([]byte, 256<<10)
	for {
		n, err := c.Read(b)
		r.add("tcp", from, n)
		if err != nil {
			break
		}
	}
	r.mu.Lock()
	delete(r.open, c)
	r.mu.Unlock()
	_ = c.Close() // all of it was read
}

func (r *reader) datagrams(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return // closed
		}
		r.add("udp", addrPort(from), n)
	}
}

func (r *reader) close() error {
	var errs []error
	for _, l := range r.tcp {
		errs = append(errs, l.Close())
	}
	for _, c := range r.udp {
		errs = append(errs, c.Close())
	}
	r.mu.Lock()
	for c := range r.open {
		_ = c.Close() // wakes who reads from it
	}
	r.mu.Unlock()
	r.work.Wait()
	return errors.Join(errs...)
}

// addrPort returns the address of a TCP or UDP socket.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case *net.UDPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

// tunCount is a program that reads a tun device.
type tunCount struct {
	tally
	file *os.File
	work sync.WaitGroup
}

func countTun(f *os.File) *tunCount {
	c := &tunCount{file: f}
	c.work.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := f.Read(b)
			if err != nil {
				return // closed
			}
			c.packet(b[:n])
		}
	})
	return c
}

// packet counts the payload of a UDP datagram; RFC 791, RFC 8200, RFC 768.
func (c *tunCount) packet(b []byte) {
	const udp, header, v6 = 17, 8, 40
	var from netip.Addr
	ip := 0
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == udp:
		ip, from = int(b[0]&15)*4, netip.AddrFrom4([4]byte(b[12:16]))
	case len(b) >= v6 && b[0]>>4 == 6 && b[6] == udp:
		ip, from = v6, netip.AddrFrom16([16]byte(b[8:24]))
	default:
		return
	}
	if len(b) >= ip+header {
		c.add("udp", netip.AddrPortFrom(from, binary.BigEndian.Uint16(b[ip:])), len(b)-ip-header)
	}
}

func (c *tunCount) close() error {
	err := c.file.Close()
	c.work.Wait()
	return err
}
