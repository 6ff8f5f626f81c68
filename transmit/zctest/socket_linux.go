package zctest

import (
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// hasZeroCopy says whether a socket has SO_ZEROCOPY.
func hasZeroCopy(t testing.TB, conn syscall.Conn) bool {
	t.Helper()
	fd, err := number(conn)
	if err != nil {
		t.Fatal(err)
	}
	on, err := sys.GetsockoptInt(fd, sys.OptionLevelSocket, sys.OptionZerocopy)
	return err == nil && on != 0
}
