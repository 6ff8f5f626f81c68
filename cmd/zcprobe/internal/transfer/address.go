package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// An Address is an end that the command line names.
type Address struct {
	Network string // tcp, udp or unix
	Addr    string // HOST:PORT or a path
}

// longestUnixPath is what sun_path holds beside its terminating zero; unix(7).
const longestUnixPath = 107

// loopback stands in for a host that was not named.
const loopback = "127.0.0.1"

// ParseAddress reads HOST:PORT or unix:PATH. A host that is left out is this
// machine's loopback, never all addresses.
func ParseAddress(s string, udp bool) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		switch {
		case udp:
			return Address{}, fmt.Errorf("%q: datagrams go over UDP only, not to unix:PATH", s)
		case path == "" || path == "@":
			return Address{}, fmt.Errorf("%q names no path", s)
		case len(path) > longestUnixPath:
			return Address{}, fmt.Errorf("%q: a path of %d bytes; a unix socket's has at most %d", s, len(path), longestUnixPath)
		case strings.ContainsRune(path, 0):
			return Address{}, fmt.Errorf("%q: a path holds no zero byte", s)
		}
		return Address{Network: "unix", Addr: path}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" {
		return Address{}, fmt.Errorf("%q is no address: write HOST:PORT or unix:PATH", s)
	}
	if host == "" {
		host = loopback
	}
	a := Address{Network: "tcp", Addr: net.JoinHostPort(host, port)}
	if udp {
		a.Network = "udp"
	}
	return a, nil
}

// String is the address as the command line takes it.
func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Addr
	}
	return a.Addr
}

// Conn is a connection that package transmit takes.
type Conn interface {
	net.Conn
	syscall.Conn
}

// Dial connects to a.
func Dial(ctx context.Context, a Address) (Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, a.Network, a.Addr)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, connectError(a, err)
	}
	return c.(Conn), nil
}

// A ConnectError says that a peer could not be reached, or an address not be
// listened on.
type ConnectError struct {
	Address Address
	Listen  bool
	Unknown bool // a name that does not resolve
	Err     error
}

func connectError(a Address, err error) error {
	e := &ConnectError{Address: a, Err: err}
	var dns *net.DNSError
	var addr *net.AddrError
	var unknown net.UnknownNetworkError
	e.Unknown = errors.As(err, &dns) || errors.As(err, &addr) || errors.As(err, &unknown)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		e.Err = op.Err
	}
	return e
}

// Error names the address and what went wrong, and what to do about the common cases.
func (e *ConnectError) Error() string {
	verb := "connect to"
	if e.Listen {
		verb = "listen on"
	}
	s := fmt.Sprintf("%s %s: %v", verb, e.Address, e.Err)
	switch {
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		s += ": nothing listens there"
	case errors.Is(e.Err, syscall.EADDRINUSE) && e.Address.Network == "unix":
		s += ": remove the file if nothing listens there any more"
	}
	return s
}

// Unwrap returns what the system said.
func (e *ConnectError) Unwrap() error { return e.Err }

// addressOf writes the address of one end of a connection as the command line
// takes it.
func addressOf(a net.Addr) string {
	switch {
	case a == nil:
		return ""
	case strings.HasPrefix(a.Network(), "unix"):
		if a.String() == "" || a.String() == "@" {
			return "" // a client that bound nothing
		}
		return "unix:" + a.String()
	}
	return a.String()
}
