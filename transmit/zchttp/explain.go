package zchttp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/zcprobe/zcprobe/transmit"
)

// connKey is where ConnContext keeps the connection.
type connKey struct{}

// ConnContext is for http.Server.ConnContext. With it handlers get their connection
// from [ConnOf], and [Explain] looks at it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// ConnOf returns the connection that a request came on, nil if the server has no
// [ConnContext]. A handler must not read from it, nor write to it.
func ConnOf(ctx context.Context) net.Conn {
	c, _ := ctx.Value(connKey{}).(net.Conn)
	return c
}

// Explain returns why a body that the handler copies to w is copied by the process,
// an [*Obstacle], or nil if nothing is known to be in the way. It is called before
// the body is copied and when all headers are set. What the connection does with a
// source it tells itself, to ConnOptions.OnCopy.
func Explain(w http.ResponseWriter, r *http.Request) error {
	switch {
	case r.ProtoMajor >= 2:
		return &Obstacle{"HTTP/2", "bodies are cut in frames between those of other streams, by the process"}
	case r.TLS != nil:
		return &Obstacle{"TLS", "the process encrypts what it sends"}
	case r.Method == http.MethodHead:
		return &Obstacle{"HEAD", "the response has no body"}
	}
	if _, err := ReaderFrom(w); err != nil {
		return err
	}
	if c := ConnOf(r.Context()); c != nil {
		if _, ok := c.(*transmit.Conn); !ok {
			return &Obstacle{fmt.Sprintf("%T", c), "the server does not listen by transmit.WrapListener; package net sends files by sendfile, and copies the rest"}
		}
	}
	h := w.Header()
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		return nil
	}
	if r.ProtoAtLeast(1, 1) {
		return &Obstacle{"Content-Length", "it is not set, so that net/http sends the body in chunks, and copies"}
	}
	return nil
}
