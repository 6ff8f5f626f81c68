package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

func noConditions(context.Context, net.Addr) (transmit.Conditions, error) {
	return transmit.Conditions{OS: "linux", Local: new(true)}, nil
}

// content returns bytes that are not the same anywhere.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func file(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// address is a place to listen on.
func address(t *testing.T, network string) Address {
	t.Helper()
	switch network {
	case "unix":
		return Address{"unix", filepath.Join(t.TempDir(), "s")}
	case "tcp6":
		return Address{"tcp", "[::1]:0"}
	}
	return Address{network, "127.0.0.1:0"}
}

// received is what a receiver ended with.
type received struct {
	r   *Received
	err error
}

// receiveOn listens and receives one connection. The listener is closed with the
// test, at the latest.
func receiveOn(t *testing.T, o RecvOptions, out *Output) (Address, <-chan received) {
	t.Helper()
	if o.Idle == 0 {
		o.Idle = 5 * time.Second
	}
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan received, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, err := l.Receive(t.Context(), out, true)
		done <- received{r, err}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	a := o.Listen
	if a.Network != "unix" {
		a.Addr = l.Address()
	}
	return a, done
}

// output is a new file in a directory of its own.
func output(t *testing.T) (*Output, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "out")
	out, err := NewOutput(name, OutputOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out, name
}

func mustHave(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that are not the %d sent", filepath.Base(name), len(got), len(want))
	}
}

func sendOptions(a Address, s Source) SendOptions {
	return SendOptions{To: a, Source: s, Wait: 10 * time.Second, Conditions: noConditions}
}
