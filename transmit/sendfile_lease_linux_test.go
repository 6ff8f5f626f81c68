package transmit

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
)

// TestSendFileLease: nobody can write to the file until the peer has it.
func TestSendFileLease(t *testing.T) {
	content := pattern(1 << 20)
	w := sourceFile(t, t.TempDir(), content)
	f, err := os.Open(w.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := FileOptions{Lease: true, Header: [][]byte{[]byte("header")}}
	c, err := s.SendFile(t.Context(), f, 0, -1, o)
	if e, ok := errors.AsType[*SourceChangingError](err); !ok || e.Changed || c.Bytes() != 0 {
		t.Fatalf("with a writer: %v, %d bytes", err, c.Bytes())
	}
	w.Close()
	if c, err = s.SendFile(t.Context(), f, 0, -1, o); err != nil {
		t.Fatal(err)
	}
	write := func() error {
		w, err := os.OpenFile(f.Name(), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			w.Close()
		}
		return err
	}
	if err := write(); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("opened for writing before the peer has read: %v", err)
	}
	if _, err := io.ReadFull(in, make([]byte, 6+len(content))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context()); err != nil {
		t.Errorf("the writer waited, and yet: %v", err)
	}
	if err := write(); err != nil {
		t.Errorf("not opened for writing after the completion: %v", err)
	}
	closeWrite(t, s)
}

// TestSendFileLeaseBroken opens the file for writing while it is sent.
func TestSendFileLeaseBroken(t *testing.T) {
	w := sourceFile(t, t.TempDir(), pattern(64<<20))
	f, err := os.Open(w.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.Close()
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	var c Completion
	go func() {
		var err error
		c, err = s.SendFile(context.Background(), f, 0, -1, FileOptions{Lease: true})
		done <- err
	}()
	if _, err := io.ReadFull(in, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.OpenFile(f.Name(), os.O_WRONLY|syscall.O_NONBLOCK, 0); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("opened for writing: %v", err)
	}
	got := arrived(in)
	err = <-done
	if e, ok := errors.AsType[*SourceChangingError](err); !ok || e.Changed || c.Bytes() >= 64<<20 {
		t.Errorf("%v after %d bytes", err, c.Bytes())
	}
	if _, err := c.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	closeWrite(t, s)
	<-got
}
