//go:build !linux

package zctest

import (
	"net"
	"testing"
)

// A Path is a TCP connection for the code under test, to a peer that takes all that
// is sent. It exists on Linux.
type Path struct {
	Conn     *net.TCPConn
	Uncopied bool
}

// Copied skips the test.
func Copied(t testing.TB) *Path {
	t.Helper()
	t.Skip("needs Linux")
	return nil
}

// Uncopied skips the test.
func Uncopied(t testing.TB) *Path {
	t.Helper()
	t.Skip("needs Linux")
	return nil
}

// Received fails the test.
func (p *Path) Received(t testing.TB) (n int64, sum []byte) {
	t.Helper()
	t.Fatal("no path but on Linux")
	return 0, nil
}
