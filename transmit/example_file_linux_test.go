package transmit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/zcprobe/zcprobe/transmit"
)

// A file server sends a header and a file with one call of the library, from
// mappings that are kept between requests. It closes the file at once: what the
// kernel still needs stays open.
func Example_fileServer() {
	name := filepath.Join(os.TempDir(), fmt.Sprintf("transmit-example-%d", os.Getpid()))
	if err := os.WriteFile(name, bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o600); err != nil {
		log.Fatal(err)
	}
	defer os.Remove(name)
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	defer kept.Close()

	serve := func(ctx context.Context, c *net.TCPConn, name string) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		s, err := transmit.NewSender(c, transmit.Options{})
		if err != nil {
			return err
		}
		head := fmt.Appendf(nil, "length %d\n", fi.Size())
		_, err = s.SendFile(ctx, f, 0, fi.Size(), transmit.FileOptions{Header: [][]byte{head}, Mappings: kept})
		if err != nil {
			return err // a *transmit.TruncatedError if the file was made shorter
		}
		_, err = s.Close(ctx)
		return err
	}

	client := dialServed(func(c *net.TCPConn) error { return serve(context.Background(), c, name) })
	got, err := io.ReadAll(client)
	if err != nil {
		log.Fatal(err)
	}
	head, body, _ := bytes.Cut(got, []byte("\n"))
	fmt.Printf("%s, %d bytes of body\n", head, len(body))
	// Output: length 1048576, 1048576 bytes of body
}

// A proxy relays each direction in a goroutine of its own, and passes on the end of
// each.
func ExampleRelay() {
	upstream := dialServed(func(c *net.TCPConn) error { // answers what it was asked
		_, err := io.Copy(c, c)
		return err
	})
	client := dialServed(func(c *net.TCPConn) error {
		ctx := context.Background()
		one := func(dst, src *net.TCPConn) error {
			_, err := transmit.Relay(ctx, dst, src, -1, transmit.RelayOptions{})
			return errors.Join(err, dst.CloseWrite())
		}
		var there sync.WaitGroup
		there.Go(func() {
			if err := one(upstream, c); err != nil {
				log.Print(err)
			}
		})
		err := one(c, upstream)
		there.Wait()
		return err
	})
	go func() {
		_, _ = client.Write(make([]byte, 5_000_000))
		_ = client.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, client)
	fmt.Println(n, err)
	// Output: 5000000 <nil>
}

// From file to file the kernel shares extents where the file system can, else
// copies without coming through the process, and leaves holes.
func ExampleCopyFile() {
	dir, err := os.MkdirTemp("", "transmit-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	from, err := os.Create(filepath.Join(dir, "from"))
	if err != nil {
		log.Fatal(err)
	}
	defer from.Close()
	if _, err := from.WriteAt([]byte("end"), 1<<20); err != nil {
		log.Fatal(err)
	}
	to, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		log.Fatal(err)
	}
	defer to.Close()
	r, err := transmit.CopyFile(context.Background(), to, from, 0, 0, -1, transmit.CopyOptions{})
	fmt.Println(r.Bytes, err)
	// Output: 1048579 <nil>
}

// dialServed connects to a server that serves one connection, and closes it.
func dialServed(serve func(*net.TCPConn) error) *net.TCPConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		if err := serve(c.(*net.TCPConn)); err != nil {
			log.Print(err)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	return c.(*net.TCPConn)
}
