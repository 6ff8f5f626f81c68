package guest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A tap is a device of this machine that QEMU moves packets of a guest to. It is the
// only one, beside lo, of a network namespace that nothing leads out of; there, port 9
// takes what it is sent.
type tap struct {
	file   *os.File
	listen net.Listener
	done   chan struct{} // closed when the listener is and every connection is read

	mu   sync.Mutex
	conn net.Conn // that is being read
	data []byte
	err  error
}

// farewell is how long the end of a connection may be on its way when QEMU has ended.
const farewell = 2 * time.Second

// tapFD is the descriptor that QEMU has a tap by: the first after the standard ones.
func tapFD(n int) int { return 3 + n }

// openTaps makes the taps of a guest.
func openTaps(t testing.TB, c *Config) []*tap {
	t.Helper()
	var all []*tap
	for i := range c.Taps {
		ns := testenv.NewNetNS(t)
		one := &tap{done: make(chan struct{})}
		var err error
		ns.Do(func() { one.file, err = openTap("tap0") })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { one.file.Close() })
		addr := netOf(len(c.NICs)+i) + ".100"
		ns.Run("ip", "addr", "add", addr+"/24", "dev", "tap0")
		ns.Run("ip", "link", "set", "tap0", "up")
		// A socket is of the namespace that its thread is in when it is made.
		ns.Do(func() { one.listen, err = net.Listen("tcp4", addr+":9") })
		if err != nil {
			t.Fatal(err)
		}
		go one.serve()
		t.Cleanup(one.end)
		all = append(all, one)
	}
	return all
}

// openTap makes a tap in the namespace of the calling thread. With IFF_VNET_HDR
// packets need not be segmented or summed (Documentation/networking/tuntap.rst).
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a tap: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// serve takes one connection after another.
func (p *tap) serve() {
	defer close(p.done)
	for {
		conn, err := p.listen.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.add(nil, err)
			}
			return
		}
		p.take(conn)
	}
}

// take reads a connection to its end. One that the guest did not end is as long as it
// is: whoever compares what came sees that.
func (p *tap) take(conn net.Conn) {
	defer conn.Close()
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	data, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	p.add(data, err)
}

func (p *tap) add(data []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = append(p.data, data...)
	p.err = errors.Join(p.err, err)
}

// end ends the service when the guest has ended.
func (p *tap) end() {
	p.listen.Close()
	p.mu.Lock()
	if p.conn != nil {
		p.conn.SetReadDeadline(time.Now().Add(farewell))
	}
	p.mu.Unlock()
	<-p.done
}

// received ends the service and returns what came.
func (p *tap) received() ([]byte, error) {
	p.end()
	return p.data, p.err
}
