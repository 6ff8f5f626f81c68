package transmit_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"sync"

	"github.com/zcprobe/zcprobe/transmit"
)

// A TCP proxy with io.Copy, as anybody writes it. One line is changed: connections are
// wrapped, and what goes through is spliced, whatever readers and writers stand
// between them and the copy.
func Example_proxy() {
	upstream := serveEach(func(c net.Conn) error { // answers what it was asked
		_, err := io.Copy(c, c)
		return err
	})
	defer upstream.Close()

	var mu sync.Mutex
	ways := map[transmit.Backend]int{}
	options := transmit.ConnOptions{OnCopy: func(r transmit.CopyReport) {
		mu.Lock()
		defer mu.Unlock()
		ways[r.Way]++
	}}
	var served sync.WaitGroup
	proxy := serveEach(func(client net.Conn) error {
		served.Add(1)
		defer served.Done()
		server, err := net.Dial("tcp", upstream.Addr().String())
		if err != nil {
			return err
		}
		defer server.Close()

		a, err := transmit.Wrap(client, options) // the line
		if err != nil {
			return err
		}
		b, err := transmit.Wrap(server, options) // and its other half
		if err != nil {
			return err
		}
		var there sync.WaitGroup
		there.Go(func() {
			_, _ = io.Copy(b, struct{ io.Reader }{a}) // a wrapper that would lose splice
			_ = b.CloseWrite()
		})
		_, err = io.Copy(a, b)
		there.Wait()
		return err
	})
	defer proxy.Close()

	c, err := net.Dial("tcp", proxy.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	question := bytes.Repeat([]byte("to be or not to be\n"), 100_000)
	go func() {
		_, _ = c.Write(question)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	answer, err := io.ReadAll(c)
	served.Wait()
	fmt.Println(bytes.Equal(answer, question), err, ways)
	// Output: true <nil> map[splice:2]
}

// serveEach serves connections until its listener is closed.
func serveEach(serve func(net.Conn) error) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if err := serve(c); err != nil {
					log.Print(err)
				}
			}()
		}
	}()
	return l
}
