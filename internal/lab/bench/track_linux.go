package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
)

// A track is the connection that everything goes over, and the clock that tells
// what it costs.
type track struct {
	conn       *net.TCPConn
	clock      benchpair.Clock
	sink       *lab.Sink // nil: a real peer
	cpus       []int     // that the sender keeps to; nil: any
	oneCPU     bool      // for the sender and the answers
	local      string    // why nothing can be concluded, "" if it can
	counted    string
	notCounted string
}

const (
	countedAll = "the whole process, user and system, with what interrupts do on top of it"
	labCounted = countedAll + ", but for the thread that answers in place of a peer"
	labMissing = "what the kernel does on the CPU of the answers: part of taking in acknowledgements, freeing pages and notifying; a network card's DMA mapping, IOMMU and interrupts, of which the laboratory has none"
	toMissing  = "what interrupts do on top of other processes and of idle CPUs: part of taking in acknowledgements, freeing pages and notifying"
)

// labTrack makes a laboratory with the answers on the last CPU and the sender on
// the first.
func labTrack(ctx context.Context) (*track, error) {
	cpus, err := allowedCPUs()
	if err != nil {
		return nil, err
	}
	first, last := cpus[0], cpus[len(cpus)-1]
	sink, err := lab.NewSink(lab.Options{AckCPUs: []int{last}})
	if err != nil {
		return nil, err
	}
	t := &track{sink: sink, cpus: []int{first}, oneCPU: first == last, counted: labCounted, notCounted: labMissing, clock: func() (time.Duration, error) {
		// The thread's clock brings its part of the process's clock up to date.
		answers, err := sink.AnswerTime()
		if err != nil {
			return 0, err
		}
		all, err := sys.ProcessCPUTime()
		return all - answers, err
	}}
	dialer := net.Dialer{Control: unpaced}
	err = sink.Do(func() error {
		c, err := dialer.DialContext(ctx, "tcp4", netip.AddrPortFrom(sink.Addr4(), lab.Port).String())
		if err != nil {
			return err
		}
		t.conn = c.(*net.TCPConn)
		// As a C program finds it, and package net does not: small sends may share a
		// packet.
		return t.conn.SetNoDelay(false)
	})
	if err != nil {
		return nil, errors.Join(err, sink.Close())
	}
	return t, nil
}

// unpaced asks for a congestion control that does not pace: pacing is a timer for
// each few packets, which is no cost of a way to send. Where the machine has no
// other it is measured along with all ways.
func unpaced(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		for _, name := range []string{"cubic", "reno"} {
			if syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, name) == nil {
				return
			}
		}
	})
}

// peerTrack connects to a peer that takes everything.
func peerTrack(ctx context.Context, to, local string) (*track, error) {
	d := net.Dialer{}
	d.SetMultipathTCP(false) // which has no zero-copy
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	t := &track{conn: c.(*net.TCPConn), clock: benchpair.Process, local: local, counted: countedAll, notCounted: toMissing}
	if t.local == "" && ownAddress(c) {
		t.local = "the receiver is on this machine, where the kernel copies lent pages on delivery, on the same CPUs"
	}
	return t, nil
}

// ownAddress reports whether a connection ends on this machine, as far as
// addresses tell.
func ownAddress(c net.Conn) bool {
	addr := func(a net.Addr) netip.Addr {
		t, ok := a.(*net.TCPAddr)
		if !ok {
			return netip.Addr{}
		}
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	local, remote := addr(c.LocalAddr()), addr(c.RemoteAddr())
	if remote.IsLoopback() || local == remote {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false // the peer is then found out by what is copied
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == remote {
			return true
		}
	}
	return false
}

// close ends the connection, and waits until the peer's kernel has everything.
func (t *track) close() error {
	var errs []error
	if t.conn != nil {
		errs = append(errs, t.conn.CloseWrite(), t.acknowledged(context.Background(), closeTime), t.conn.Close())
	}
	if t.sink != nil {
		errs = append(errs, t.sink.Close())
	}
	return errors.Join(errs...)
}

const (
	closeTime = 2 * time.Second
	ackTime   = 30 * time.Second // without any progress
	askFirst  = 50 * time.Microsecond
	askLast   = time.Millisecond
)

// acknowledged waits until nothing is on its way, for so long without progress.
func (t *track) acknowledged(ctx context.Context, patience time.Duration) error {
	raw, err := t.conn.SyscallConn()
	if err != nil {
		return err
	}
	moved, least := time.Now(), -1
	for pause := askFirst; ; pause = min(pause*5/4, askLast) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		left := 0
		var errno syscall.Errno
		if err := raw.Control(func(fd uintptr) { left, errno = sys.OutQueue(int(fd)) }); err != nil {
			return err
		}
		switch {
		case errno != 0:
			return os.NewSyscallError("SIOCOUTQ", errno)
		case left == 0:
			return nil
		case least < 0 || left < least:
			moved, least = time.Now(), left
		case time.Since(moved) > patience:
			return fmt.Errorf("the peer has not acknowledged %d bytes in %v", left, patience)
		}
		// The thread sleeps, not the goroutine: waking that up would take the
		// scheduler of Go as long as some sends.
		ts := syscall.NsecToTimespec(pause.Nanoseconds())
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it early, which does no harm
	}
}

// allowedCPUs returns the CPUs that this process may use, at least one.
func allowedCPUs() ([]int, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return parseCPUs(strings.TrimSpace(list))
		}
	}
	return []int{0, runtime.NumCPU() - 1}, nil
}

// parseCPUs reads a list such as "0-3,8".
func parseCPUs(list string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err = errors.Join(err, err2); err != nil || a < 0 || b < a || b > mostCPUs {
			return nil, fmt.Errorf("%q is no list of CPUs", list)
		}
		for n := a; n <= b; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}

const mostCPUs = 1 << 16
