package zctls

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/zcprobe/zcprobe/transmit"
)

type listener struct {
	net.Listener
	config *tls.Config
	o      transmit.ConnOptions
	told   atomic.Bool
}

// NewListener makes a listener whose connections are [Conn]s, in the place of
// tls.NewListener. The listener below must give out *net.TCPConn. That the sending
// stays with crypto/tls is told for the first connection of which it does.
func NewListener(l net.Listener, config *tls.Config, o transmit.ConnOptions) net.Listener {
	return &listener{Listener: l, config: config, o: o}
}

// Accept waits for the next connection, with which hands are shaken when it is first
// used.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if w, ok := nc.(*transmit.Conn); ok {
		nc = w.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		// One connection of the wrong kind must not end the server: crypto/tls alone.
		c := tls.Server(nc, l.config)
		l.tell(func(err error) { (&Conn{o: l.o}).downgraded(err) }, fmt.Errorf("zctls: a %T is no TCP connection", nc))
		return c, nil
	}
	c := Server(tcp, l.config, l.o)
	c.tell = func(why error) { l.tell(c.downgraded, why) }
	return c, nil
}

func (l *listener) tell(tell func(error), why error) {
	if !l.told.Swap(true) {
		tell(why)
	}
}
