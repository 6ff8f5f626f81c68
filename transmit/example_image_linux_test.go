package transmit_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/zcprobe/zcprobe/transmit"
)

// An image server renders into buffers of a pool and sends them. It releases each
// buffer at once and never looks at it again: the pool gives the memory out anew
// when the peer has the image. While all buffers are under way Get waits, which
// bounds the memory of a slow client.
func Example_imageServer() {
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: 1 << 20, MaxBytes: 8 << 20})
	if err != nil {
		log.Fatal(err)
	}
	serve := func(ctx context.Context, c *net.TCPConn) error {
		s, err := transmit.NewSender(c, transmit.Options{})
		if err != nil {
			return err
		}
		for frame := range 3 {
			b, err := pool.Get(ctx)
			if err != nil {
				return err
			}
			b.SetLen(render(b.Bytes(), frame))
			_, err = s.SendBuffer(ctx, b)
			b.Release()
			if err != nil {
				return err
			}
		}
		// Close waits until the peer has acknowledged everything.
		_, err = s.Close(ctx)
		return err
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		if err := serve(context.Background(), c.(*net.TCPConn)); err != nil {
			log.Print(err)
		}
	}()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, client)
	fmt.Println(n, err)
	fmt.Println("all memory is back:", pool.Close(context.Background()) == nil)
	// Output:
	// 3000000 <nil>
	// all memory is back: true
}

// render draws an image into memory and returns its size.
func render(dst []byte, frame int) int {
	const size = 1_000_000
	for i := range dst[:size] {
		dst[i] = byte(i + frame)
	}
	return size
}

// A send returns before the kernel is done with the memory. Completion.Wait says
// when it is, and which way it went.
func ExampleCompletion_Wait() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	s, err := transmit.NewSender(c.(*net.TCPConn), transmit.Options{
		Backend:     transmit.MsgZerocopy, // or "", to let the library choose
		OnDowngrade: func(d *transmit.Downgrade) { log.Print(d) },
	})
	if err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 256<<10)
	done, err := s.Send(context.Background(), p)
	if err != nil {
		log.Fatal(err)
	}
	r, err := done.Wait(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	clear(p) // ours again
	// On loopback the kernel copies when it receives, and says so.
	fmt.Println(r.Bytes, r.Backend, r.Reported)
	if _, err := s.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: 262144 msg_zerocopy copied
}
