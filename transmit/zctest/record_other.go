//go:build !linux

package zctest

import (
	"errors"
	"syscall"
	"testing"
)

// Record skips the test: calls are recorded on Linux.
func Record(t testing.TB, fn func()) *Calls {
	t.Helper()
	t.Skip("needs Linux")
	return nil
}

func identify(syscall.Conn) (string, error) { return "", errors.ErrUnsupported }
