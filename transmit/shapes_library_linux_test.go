package transmit_test

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// thisLibrary is the standard library with the change that a shape names.
func thisLibrary(s shape) library {
	l := plainGo
	switch s.with {
	case "Wrap":
		l.wrap = wrap
	case "Copy":
		l.copy = func(dst io.Writer, src io.Reader) (int64, error) {
			r, err := transmit.Copy(dst, src)
			return r.Bytes, err
		}
	case "WrapListener":
		l.listen = listen
	case "zchttp.Copy":
		l.listen, l.web.copy = listen, zchttp.Copy
	case "zchttp.ServeContent":
		l.listen, l.web.context, l.content = listen, zchttp.ConnContext, zchttp.ServeContent
	case "zchttp.FileServer":
		l.listen, l.web.context = listen, zchttp.ConnContext
		l.fileServer = func(root fs.FS) http.Handler { return zchttp.FileServer(root, zchttp.Options{}) }
	case "zchttp.Wrap":
		l.listen = listen
		l.writer = func(w http.ResponseWriter) http.ResponseWriter { return zchttp.Wrap(w) }
	case vouching:
		l.listen = listen
		l.writer = func(w http.ResponseWriter) http.ResponseWriter {
			return zchttp.Wrap(w, func(http.ResponseWriter) bool { return true })
		}
	case "zchttp.Recorder":
		l.listen = listen
		l.counter = func(w http.ResponseWriter) http.ResponseWriter { return zchttp.NewRecorder(w) }
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

func listen(l net.Listener) net.Listener { return transmit.WrapListener(l, transmit.ConnOptions{}) }
