package ebpf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// noneEvery is how often the tier looks.
const noneEvery = 500 * time.Millisecond

// withoutBPF is the tier that loads nothing into the kernel. It asks the kernel
// for its sockets, and knows how much they have sent, but not what became of it.
type withoutBPF struct {
	options Options
	stop    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	sockets map[uint64]*sentSocket // by cookie
	asked   map[uint64]zeroCopyOption
	watch   socketWatch
	gaps    map[string]bool // what could not be seen, a sentence each
}

// sentSocket is a socket and how much it sent.
type sentSocket struct {
	Socket
	before uint64 // it was looked at
	sent   uint64
}

func openNone(_ *kernel, o Options) (eye, []Hook, error) {
	n := &withoutBPF{
		options: o, stop: make(chan struct{}), done: make(chan struct{}),
		sockets: map[uint64]*sentSocket{}, asked: map[uint64]zeroCopyOption{}, gaps: map[string]bool{},
	}
	n.look(true)
	go func() {
		defer close(n.done)
		tick := time.NewTicker(noneEvery)
		defer tick.Stop()
		for {
			select {
			case <-n.stop:
				return
			case <-tick.C:
				n.look(false)
			}
		}
	}()
	return n, []Hook{}, nil
}

func (n *withoutBPF) close() error {
	close(n.stop)
	<-n.done
	return nil
}

func (n *withoutBPF) drain() (observations, error) {
	n.look(false)
	n.mu.Lock()
	defer n.mu.Unlock()
	all := observations{watched: n.watch.all(), gaps: slices.Sorted(maps.Keys(n.gaps))}
	for _, s := range n.sockets {
		all.sockets = append(all.sockets, s.Socket)
		if s.sent > s.before {
			all.counts = append(all.counts, observation{socket: s.ID, place: placeSent, bytes: s.sent - s.before})
		}
	}
	return all, nil
}

// look reads the sockets of the processes looked at. What was sent before the
// first look is not counted.
func (n *withoutBPF) look(first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := findProcesses(n.options)
	for _, gap := range found.gaps {
		n.gaps[gap] = true
	}
	var now []socketNow
	for _, space := range found.spaces {
		sockets, err := space.sockets()
		if err != nil {
			n.gaps[fmt.Sprintf("sockets of %s: %v", space.processes(), err)] = true
		}
		for _, s := range sockets {
			owner, ok := space.owners[s.Inode]
			if !ok || s.Inode == 0 {
				continue
			}
			now = append(now, n.take(s, owner, space.netns, first))
		}
	}
	n.watch.see(now, time.Now())
}

// take remembers how much a socket has sent.
func (n *withoutBPF) take(s dumped, owner socketOwner, netns uint32, first bool) socketNow {
	known := n.sockets[s.Cookie]
	if known == nil {
		known = &sentSocket{Socket: Socket{
			ID: s.Cookie, PID: owner.pid, Comm: owner.comm, Inode: s.Inode, NetNS: netns, UID: s.UID,
			Protocol: s.protocol, Local: s.Local, Remote: s.Remote,
		}}
		if first && s.Info {
			known.before = s.accepted()
		}
		n.sockets[s.Cookie] = known
	}
	known.Remote = s.Remote
	if s.Info {
		known.sent = max(known.sent, s.accepted())
	}
	option := n.option(s, owner)
	return socketNow{
		Socket: known.Socket, listens: s.State == sys.TCPStateListen, sent: s.Sent, acked: s.Acked,
		optmem: uint64(s.Optmem), optmemMax: optmemMax(), queued: uint64(s.Queued),
		zerocopy: option.set, inferred: option.waits && s.Meminfo, mtuProbing: mtuProbing(),
	}
}

// dumped is a socket as the kernel describes it.
type dumped struct {
	sys.InetSocket
	protocol string
}

// accepted is how much a TCP socket took from the application.
func (d dumped) accepted() uint64 {
	return d.Sent - min(d.Retransmitted, d.Sent) + uint64(d.Unsent)
}

// zeroCopyOption is whether a socket has SO_ZEROCOPY, and whether something that
// can only be completions waits in its error queue.
type zeroCopyOption struct{ set, waits, refused bool }

// option asks a socket by a duplicate of its descriptor, which is closed at once:
// while it is there the socket is not closed by its owner's close. Nobody undoes
// the option: a socket that has it is asked again only while completions may wait.
func (n *withoutBPF) option(s dumped, owner socketOwner) zeroCopyOption {
	have := n.asked[s.Cookie]
	have.waits = false
	if have.refused || have.set && s.Optmem == 0 {
		return have
	}
	now, err := askZeroCopy(owner, s.Inode)
	if err != nil {
		have.refused = true
		n.gaps[fmt.Sprintf("socket options of %s (pid %d), which take permission to trace it: %v", owner.comm, owner.pid, err)] = true
	} else {
		have = now
	}
	n.asked[s.Cookie] = have
	return have
}

func askZeroCopy(owner socketOwner, inode uint64) (option zeroCopyOption, err error) {
	pidfd, err := sys.PidfdOpen(owner.pid)
	if err != nil {
		return option, err
	}
	defer func() { err = errors.Join(err, sys.Close(pidfd)) }()
	fd, err := sys.PidfdGetfd(pidfd, owner.fd)
	if err != nil {
		return option, err
	}
	value, err := sys.GetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy)
	// Filters and IP options take option memory as completions do; what waits in
	// the error queue shows by POLLERR, which takes nothing out. Timestamps wait
	// there, too.
	events, pollErr := sys.Poll(fd, 0, 0)
	stamps, stampsErr := sys.GetsockoptInt(fd, sys.SolSocket, sys.SoTimestamping)
	is, inodeErr := sys.FileInode(fd)
	err = errors.Join(err, pollErr, stampsErr, inodeErr, sys.Close(fd))
	if err != nil || is != inode {
		return option, err // the descriptor is another's now
	}
	option.set = value != 0
	option.waits = option.set && events&sys.PollErr != 0 && stamps == 0
	return option, nil
}

// sockets reads the TCP and UDP sockets of a network namespace.
func (p netSpace) sockets() (all []dumped, err error) {
	err = p.inside(func() error {
		n, err := sys.OpenNetlink(sys.NetlinkSockDiag)
		if err != nil {
			return err
		}
		defer n.Close()
		for _, kind := range []struct {
			family, protocol uint8
			name             string
		}{
			{sys.AFInet, sys.ProtocolTCP, "tcp"}, {sys.AFInet6, sys.ProtocolTCP, "tcp"},
			{sys.AFInet, sys.ProtocolUDP, "udp"}, {sys.AFInet6, sys.ProtocolUDP, "udp"},
		} {
			sockets, err := sys.DumpInet(n, kind.family, kind.protocol)
			if err != nil && !errors.Is(err, sys.ErrNetlinkInterrupted) {
				return err
			}
			for _, s := range sockets {
				all = append(all, dumped{s, kind.name})
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b dumped) int { return cmp.Compare(a.Cookie, b.Cookie) })
	return all, err
}
