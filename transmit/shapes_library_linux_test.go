package transmit_test

import (
	"fmt"
	"io"
	"net"

	"github.com/zcprobe/zcprobe/transmit"
)

// thisLibrary is the standard library with the change that a shape names.
func thisLibrary(s shape) library {
	l := plainGo
	switch s.with {
	case "Wrap":
		l.wrap = wrap
	case "WrapListener":
		l.listen = func(l net.Listener) net.Listener { return wrapping{l} }
	case "Copy":
		l.copy = func(dst io.Writer, src io.Reader) (int64, error) {
			r, err := transmit.Copy(dst, src)
			return r.Bytes, err
		}
	default:
		panic(fmt.Sprintf("nobody knows how to run a shape with %s", s.with))
	}
	return l
}

func wrap(c net.Conn) net.Conn {
	w, err := transmit.Wrap(c, transmit.ConnOptions{})
	if err != nil {
		panic(err)
	}
	return w
}

// wrapping wraps what it accepts.
type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrap(c), nil
}
