package zchttp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// listen returns a listener on loopback.
func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// get returns the size of what is at a URL, and whether it is what is wanted.
func get(url string, want []byte) (int, bool) {
	resp, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	return len(got), sha256.Sum256(got) == sha256.Sum256(want)
}

// A file server changes one line, that with Serve. http.FileServerFS hides its files
// from package net, which copies them; the listener's connections find them.
func Example_fileServer() {
	dir, err := os.MkdirTemp("", "zchttp-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "big.bin"), content, 0o600); err != nil {
		log.Fatal(err)
	}

	told := make(chan transmit.CopyReport, 1)
	l := listen()
	srv := &http.Server{Handler: http.FileServerFS(os.DirFS(dir))}
	go func() {
		// Was: srv.Serve(l)
		_ = srv.Serve(transmit.WrapListener(l, transmit.ConnOptions{
			OnCopy: func(r transmit.CopyReport) { told <- r }, // only to see it
		}))
	}()
	defer srv.Close()

	fmt.Println(get("http://"+l.Addr().String()+"/big.bin", content))
	r := <-told
	fmt.Println(r.Source, "to", r.Target, "by", r.Way)
	// Output:
	// 1048576 true
	// file to tcp by sendfile
}

// A server of large files keeps them mapped, so that they go by MSG_ZEROCOPY where
// the path to the client lets that pay. The handler is the line that changes, too.
func ExampleFileServer() {
	dir, err := os.MkdirTemp("", "zchttp-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(filepath.Join(dir, "big.bin"), content, 0o600); err != nil {
		log.Fatal(err)
	}
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	defer kept.Close()

	l := listen()
	// Was: http.FileServerFS(os.DirFS(dir))
	files := zchttp.FileServer(os.DirFS(dir), zchttp.Options{File: transmit.FileOptions{Mappings: kept}})
	srv := &http.Server{Handler: files}
	go func() { _ = srv.Serve(transmit.WrapListener(l, transmit.ConnOptions{})) }()
	defer srv.Close()

	fmt.Println(get("http://"+l.Addr().String()+"/big.bin", content))
	// Output: 1048576 true
}

// An image server renders into a buffer of a pool and serves it as a Body: to any
// number of clients at once, with ranges and conditions. When it has a new image it
// releases the old one, which goes back to the pool when the last client has it.
func ExampleServeBody() {
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: 1 << 20, MaxBytes: 2 << 20})
	if err != nil {
		log.Fatal(err)
	}
	buf, err := pool.Get(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	image := bytes.Repeat([]byte("pixel..."), 100_000)
	buf.SetLen(copy(buf.Bytes(), image)) // in earnest, rendered there
	body, rendered := transmit.BufferBody(buf), time.Now()

	l := listen()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Was: http.ServeContent(w, r, "image.png", rendered, bytes.NewReader(image))
		zchttp.ServeBody(w, r, "image.png", rendered, body)
	})}
	go func() { _ = srv.Serve(transmit.WrapListener(l, transmit.ConnOptions{})) }()

	fmt.Println(get("http://"+l.Addr().String(), image))
	fmt.Println("nobody has it:", body.Release(context.Background()) == nil)
	_ = srv.Close()
	fmt.Println("all memory is back:", pool.Close(context.Background()) == nil)
	// Output:
	// 800000 true
	// nobody has it: true
	// all memory is back: true
}

// Middleware that logs embeds a Recorder, and the body still goes by sendfile.
func ExampleRecorder() {
	logging := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := zchttp.NewRecorder(w)
			h.ServeHTTP(rec, r)
			_ = fmt.Sprint(r.Method, r.URL, rec.Status(), rec.Bytes()) // to the log
		})
	}
	fmt.Println(zchttp.CheckMiddleware(logging))

	lossy := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
		})
	}
	fmt.Println(zchttp.CheckMiddleware(lossy))
	// Output:
	// <nil>
	// zchttp: the body was written by the process: ReadFrom of the connection was called for 0 of 262144 bytes: struct { http.ResponseWriter }: it has neither ReadFrom nor Unwrap
}
