package zctest_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zctest"
)

// A test of a program's own copy: that it sends a file by sendfile, and that the file
// arrives.
func ExampleAssertSendfile() {
	sendHome := func(c *net.TCPConn, f *os.File) error { // the code under test
		_, err := io.Copy(c, f)
		return err
	}
	TestSendHome := func(t *testing.T) {
		f, err := os.Open("testdata/big.bin")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		path := zctest.Copied(t)
		zctest.AssertSendfile(t, path.Conn, func() {
			if err := sendHome(path.Conn, f); err != nil {
				t.Error(err)
			}
		})
		if n, sum := path.Received(t); n != 1<<20 {
			t.Errorf("received %d bytes with the checksum %x", n, sum)
		}
	}
	_ = TestSendHome
}

// A test of a middleware: that files are sent by sendfile through it.
func ExampleAssertFastPath() {
	middleware := func(next http.Handler) http.Handler { return next } // the code under test
	TestMiddleware := func(t *testing.T) {
		files := http.FileServer(http.Dir("testdata"))
		zctest.AssertFastPath(t, func(l net.Listener) error {
			return http.Serve(l, middleware(files))
		}, "/big.bin")
	}
	_ = TestMiddleware
}

// A test of memory that is sent without being copied, as far as the user may look: as
// root also that the kernel did not copy.
func ExampleAssertNoCopy() {
	TestSender := func(t *testing.T) {
		path := zctest.Uncopied(t) // skips the test without root
		zctest.AssertNoCopy(t, path.Conn, func() {
			s, err := transmit.NewSender(path.Conn, transmit.Options{Backend: transmit.MsgZerocopy})
			if err != nil {
				t.Error(err)
				return
			}
			sent, err := s.Send(t.Context(), make([]byte, 1<<20))
			if err == nil {
				_, err = sent.Wait(t.Context()) // the notification
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	_ = TestSender
}
