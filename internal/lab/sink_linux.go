package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Port is the port that [Sink.Dial] connects to: discard. The sink takes what
// comes to any port.
const Port = 9

// Options change what a sink is like. The zero value is a good one.
type Options struct {
	// MTU of the wire, 1280 to 65535 bytes; 1500 if 0.
	MTU int

	// Window is what the sink offers to receive at a time on each connection, in
	// bytes, 1 to 1,073,725,440 (65535<<14); 16,776,960 (65535<<8) if 0, four
	// times what a socket of a Linux with ordinary settings sends ahead. It is
	// rounded down to what a window can say. A SYN-ACK offers at most 65535, as
	// its window is not scaled.
	Window int

	// MaxFlows is how many TCP connections, open or not forgotten yet, there may
	// be at a time; 16384 if 0. When there are so many, SYNs are not answered. Of
	// flows of datagrams it is how many are counted one by one.
	MaxFlows int

	// AckCPUs are the CPUs on which the sink may answer; all if empty. The
	// sender's TCP takes in an ACK on the CPU it comes from, so measurements
	// that pin the sender put this elsewhere.
	AckCPUs []int
}

const (
	defaultMTU      = 1500
	defaultMaxFlows = 1 << 14
	defaultWindow   = math.MaxUint16 << 8
	maxWindow       = math.MaxUint16 << maxScale
	maxScale        = 14      // RFC 7323
	maxMaxFlows     = 1 << 20 // 200 MB of kernel memory
	minMTU, maxMTU  = 1280, 65535
)

func (o Options) withDefaults() (Options, error) {
	o.MTU = cmp.Or(o.MTU, defaultMTU)
	o.Window = cmp.Or(o.Window, defaultWindow)
	o.MaxFlows = cmp.Or(o.MaxFlows, defaultMaxFlows)
	switch {
	case o.MTU < minMTU || o.MTU > maxMTU:
		return o, fmt.Errorf("sink: MTU %d is not from %d to %d", o.MTU, minMTU, maxMTU)
	case o.Window < 1 || o.Window > maxWindow:
		return o, fmt.Errorf("sink: window %d is not from 1 to %d", o.Window, maxWindow)
	case o.MaxFlows < 1 || o.MaxFlows > maxMaxFlows:
		return o, fmt.Errorf("sink: %d flows are not from 1 to %d", o.MaxFlows, maxMaxFlows)
	}
	return o, nil
}

// windowScale returns the shift with which a window can be told, and what the
// window then is.
func windowScale(window int) (scale, rounded uint32) {
	for window>>scale > math.MaxUint16 {
		scale++
	}
	return scale, uint32(window) >> scale << scale
}

func (o Options) settings() sinkSettings {
	scale, window := windowScale(o.Window)
	return sinkSettings{
		Device:  farIndex,
		Window:  window,
		Scale:   scale,
		MssV4:   uint16(o.MTU - 40), // less the headers of IP and TCP
		MssV6:   uint16(o.MTU - 60),
		NearMac: nearMAC(), FarMac: farMAC(),
	}
}

// A Sink is a peer that takes everything and keeps nothing, at the other end of
// a wire of its own. Its methods may be called from any goroutine.
type Sink struct {
	wire     *wire
	programs sinkObjects
	acker    *acker
	sweeper  *sweeper

	mu       sync.Mutex // of settings
	settings sinkSettings

	closing sync.Once
	closed  error
}

// NewSink makes a sink. It needs CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF, a
// kernel of 5.10 or later with veth, clsact and BPF classifiers, and /proc. On
// kernels before 5.11 it lifts the process's RLIMIT_MEMLOCK, which BPF maps are
// charged to there, and leaves it so.
func NewSink(o Options) (*Sink, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sink{settings: o.settings()}
	if err := s.build(o); err != nil {
		return nil, errors.Join(fmt.Errorf("sink: %w", err), s.Close())
	}
	return s, nil
}

func (s *Sink) build(o Options) error {
	var err error
	if s.programs, err = loadPrograms(o.MaxFlows, s.settings); err != nil {
		return err
	}
	if s.wire, err = newWire(o.MTU); err != nil {
		return err
	}
	if err := s.wire.up(s.programs.Take.FD()); err != nil {
		return err
	}
	s.acker, err = startAcker(s.wire.far, s.programs.Acker, s.programs.Wakeups, o.AckCPUs)
	if err != nil {
		return err
	}
	s.sweeper = startSweeper(s.programs, o.MaxFlows)
	return nil
}

// loadPrograms loads the programs, with maps for so many flows.
func loadPrograms(maxFlows int, settings sinkSettings) (sinkObjects, error) {
	var programs sinkObjects
	if err := rlimit.RemoveMemlock(); err != nil {
		return programs, fmt.Errorf("lift RLIMIT_MEMLOCK: %w", err)
	}
	spec, err := loadSink()
	if err != nil {
		return programs, err
	}
	spec.Maps[sinkMapFlows].MaxEntries = uint32(maxFlows)
	spec.Maps[sinkMapDatagramFlows].MaxEntries = uint32(maxFlows)
	spec.Maps[sinkMapQueue].MaxEntries = 2 * uint32(maxFlows)
	if err := spec.LoadAndAssign(&programs, nil); err != nil {
		return programs, fmt.Errorf("load BPF: %w", err)
	}
	if err := programs.SettingsOf.Put(uint32(0), settings); err != nil {
		return programs, errors.Join(fmt.Errorf("settings: %w", err), programs.Close())
	}
	return programs, nil
}

// Close ends the sink: the wire is cut, and connections that are still open
// hear nothing more. Closing it again does nothing and returns the same.
func (s *Sink) Close() error {
	s.closing.Do(func() {
		var errs []error
		if s.sweeper != nil {
			errs = append(errs, s.sweeper.close())
		}
		if s.acker != nil {
			errs = append(errs, s.acker.close())
		}
		if s.wire != nil {
			errs = append(errs, s.wire.close())
		}
		if s.programs.Take != nil {
			errs = append(errs, s.programs.Close())
		}
		s.closed = errors.Join(errs...)
	})
	return s.closed
}

// AnswerTime returns the CPU time that the thread of the sink has used: for
// answers and while it looked for work, and what the kernel did on top of it. It is
// part of the time of the process, though no cost of the sender's.
func (s *Sink) AnswerTime() (time.Duration, error) {
	d, err := sys.ThreadCPUTimeOf(s.acker.thread)
	if err != nil {
		return 0, fmt.Errorf("sink: %w", errors.Join(err, s.acker.failed()))
	}
	return d, nil
}

// Addr4 returns the sink's IPv4 address.
func (s *Sink) Addr4() netip.Addr { return netip.MustParseAddr(sinkV4) }

// Addr6 returns the sink's IPv6 address, the zero Addr where the machine has no
// IPv6.
func (s *Sink) Addr6() netip.Addr {
	if s.wire.noIPv6 != nil {
		return netip.Addr{}
	}
	return netip.MustParseAddr(sinkV6)
}

// Do runs fn in the sender's network namespace and returns its error, or one
// that says why that was not possible. Sockets that fn makes stay there, and so
// do programs that it starts; goroutines that it starts are elsewhere. fn runs
// on the goroutine of the caller, locked to its thread, as a rule; if that is
// the first thread of the process, on another. It may fail a test, call Do, and
// run beside other calls.
//
// The namespace has its own settings below /proc/sys/net, but what fn reads
// elsewhere in /proc/net is the namespace of the process: /proc/thread-self/net
// is this one.
func (s *Sink) Do(fn func() error) error { return s.wire.near.Do(fn) }

// Dial connects to the sink, from the sender's namespace. The network is tcp4,
// tcp6, udp4 or udp6; tcp and udp are those of IPv4.
func (s *Sink) Dial(ctx context.Context, network string) (net.Conn, error) {
	var addr netip.Addr
	switch network {
	case "tcp", "tcp4", "udp", "udp4":
		addr = s.Addr4()
	case "tcp6", "udp6":
		if s.wire.noIPv6 != nil {
			return nil, fmt.Errorf("sink: dial %s: %w", network, s.wire.noIPv6)
		}
		addr = s.Addr6()
	default:
		return nil, fmt.Errorf("sink: dial: %w", net.UnknownNetworkError(network))
	}
	var c net.Conn
	err := s.Do(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, net.JoinHostPort(addr.String(), strconv.Itoa(Port)))
		return err
	})
	return c, err
}

// Hold makes the sink a peer that does not read: what it has offered to receive
// it still takes, and then its windows are 0. Those of connections made while it
// holds are 65535 bytes, or Options.Window if that is less.
func (s *Sink) Hold() error { return s.setHold(1) }

// Release ends Hold, and offers the whole window again on every connection.
func (s *Sink) Release() error {
	if err := s.setHold(0); err != nil {
		return err
	}
	flows, err := s.tcpFlows()
	if err != nil {
		return err
	}
	for key := range flows {
		if _, err := s.control(key, 0); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) setHold(hold uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.Hold = hold
	if err := s.programs.SettingsOf.Update(uint32(0), s.settings, ebpf.UpdateExist); err != nil {
		return fmt.Errorf("sink: settings: %w", err)
	}
	return nil
}
