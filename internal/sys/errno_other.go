//go:build !unix

package sys

import "syscall"

func errnoName(syscall.Errno) string { return "" }
