package transmit

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// near is a TCP connection to this machine, as far as addresses tell. Its peer
// acknowledges bytes before anybody has read them, and they wait in its receive
// queue as references to the same pages that were sent by sendfile, splice and
// vmsplice. (MSG_ZEROCOPY is copied when it is delivered, skb_orphan_frags_rx.) The
// kernel tells the length of that queue of every socket of a network namespace.
//
// It does not of other namespaces: whoever sends by reference to a container of the
// same machine learns only of the acknowledgement.
type near struct {
	local, remote netip.AddrPort // not valid: the peer is not known to be here
	asked, blind  bool           // whether what it has not read can be told
}

func (n *near) look(c syscall.Conn) {
	nc, ok := c.(net.Conn)
	if !ok || !local(c) {
		return
	}
	l, lok := nc.LocalAddr().(*net.TCPAddr)
	r, rok := nc.RemoteAddr().(*net.TCPAddr)
	if lok && rok {
		n.local, n.remote = l.AddrPort(), r.AddrPort()
	}
}

// unread returns how many acknowledged bytes wait to be read; false if that cannot be
// told: the connection belongs to another network namespace, or a filter or kernel
// has no sock_diag(7).
func (n *near) unread(k *socketCalls) (uint64, bool) {
	p, err := k.FindTCP(n.remote, n.local)
	switch {
	case err == nil && p.State != sys.TCPStateListen:
		return uint64(p.Unread), true
	case err != nil && !errors.Is(err, syscall.ENOENT):
		return 0, false
	}
	// The peer is closed and its queue is gone, if this is the place to look at all.
	_, err = k.FindTCP(n.local, n.remote)
	return 0, err == nil
}

// unknown reports whether the peer is on this machine and what it has not read
// cannot be told.
func (n *near) unknown(k *socketCalls) bool {
	if n.remote.IsValid() && !n.asked {
		_, ok := n.unread(k)
		n.asked, n.blind = true, !ok
	}
	return n.blind
}

// peerHas returns how many bytes the peer has acknowledged, as given, and how many of
// them do not wait on this machine to be read.
func (s *Sender) peerHas(acked uint64) (uint64, uint64) {
	if !s.near.remote.IsValid() || !s.led.sharing() {
		return acked, acked
	}
	unread, ok := s.near.unread(s.k)
	if !ok {
		unread = acked
	}
	return acked, acked - min(unread, acked)
}
