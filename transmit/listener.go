package transmit

import (
	"fmt"
	"net"
	"sync/atomic"
)

// A Listener gives out the connections of another as [Conn]s. A server that is made
// of package net, as http.Server, keeps its code:
//
//	srv.Serve(transmit.WrapListener(l, transmit.ConnOptions{}))
//
// TLS goes round it: tls.NewListener(transmit.WrapListener(l, o), config). What such a
// server sends is encrypted, and so copied, in the process.
type Listener struct {
	net.Listener
	o     ConnOptions
	plain atomic.Int64
}

// WrapListener makes a Listener of one for TCP or for stream sockets of unix.
// Connections of other kinds, as those of a tls listener, come out of it as they are;
// [Listener.Plain] counts them, and the first is told as a [Downgrade].
func WrapListener(l net.Listener, o ConnOptions) *Listener { return &Listener{Listener: l, o: o} }

// Accept waits for the next connection. Errors are those of the wrapped listener.
func (l *Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c, err := Wrap(nc, l.o)
	if err != nil {
		// A connection that cannot be made faster is to be served all the same.
		if l.plain.Add(1) == 1 {
			tellDowngrade(l.o.Sender.OnDowngrade, l.o.Sender.Logger, &Downgrade{From: Sendfile, To: ReadWrite,
				Reason: fmt.Sprintf("connections of a %T are served as they are", l.Listener), Err: err}, false)
		}
		return nc, nil
	}
	return c, nil
}

// NetListener returns the listener that it wraps, for what only that can.
func (l *Listener) NetListener() net.Listener { return l.Listener }

// Plain is how many connections came out as they are.
func (l *Listener) Plain() int64 { return l.plain.Load() }
