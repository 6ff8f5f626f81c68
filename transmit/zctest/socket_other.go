//go:build !linux

package zctest

import (
	"syscall"
	"testing"
)

func hasZeroCopy(testing.TB, syscall.Conn) bool { return false }
