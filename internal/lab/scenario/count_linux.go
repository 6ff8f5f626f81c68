package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/zcprobe/zcprobe/internal/lab"
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
	tcp  net.Listener
	udp  net.PacketConn
	work sync.WaitGroup

	open map[net.Conn]bool // with tally.mu
}

// read makes the peer of a place one that reads.
func (p *place) read(at *room, addr netip.Addr) error {
	r := &reader{open: map[net.Conn]bool{}}
	where := netip.AddrPortFrom(addr, discard).String()
	err := at.Do(func() (err error) {
		var plain net.ListenConfig
		plain.SetMultipathTCP(p.multipath)
		if r.tcp, err = plain.Listen(context.Background(), "tcp4", where); err == nil {
			r.udp, err = net.ListenPacket("udp4", where)
		}
		return err
	})
	p.later(r.close)
	if err != nil {
		return err
	}
	r.work.Go(r.accept)
	r.work.Go(r.datagrams)
	p.to, p.count = addr, r
	return nil
}

func (r *reader) accept() {
	for {
		c, err := r.tcp.Accept()
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

func (r *reader) datagrams() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := r.udp.ReadFrom(b)
		if err != nil {
			return // closed
		}
		r.add("udp", addrPort(from), n)
	}
}

func (r *reader) close() error {
	var errs []error
	if r.tcp != nil {
		errs = append(errs, r.tcp.Close())
	}
	if r.udp != nil {
		errs = append(errs, r.udp.Close())
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

// packet counts the payload of a UDP datagram over IPv4; RFC 791, RFC 768.
func (c *tunCount) packet(b []byte) {
	const udp, header = 17, 8
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != udp {
		return
	}
	ip := int(b[0]&15) * 4
	if len(b) < ip+header {
		return
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(b[ip:]))
	c.add("udp", from, len(b)-ip-header)
}

func (c *tunCount) close() error {
	err := c.file.Close()
	c.work.Wait()
	return err
}
