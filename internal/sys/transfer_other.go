//go:build !linux

package sys

import (
	"errors"
	"syscall"
)

// What moves bytes is implemented for Linux alone; elsewhere it answers
// errors.ErrUnsupported, and the constants mean nothing.
const (
	SolIP, IPMTU, SolIPv6, IPv6MTU = 0, 0, 0, 0
	SolSocket, SoError, SoMeminfo  = 0, 0, 0
	MeminfoDrops                   = 0
	PollIn                         = 0
	MsgTrunc, MsgDontwait          = 0, 0
	SpliceNonblock                 = 0
)

// GetsockoptInt is not implemented here.
func GetsockoptInt(int, int, int) (int, error) { return 0, errors.ErrUnsupported }

// GetsockoptBytes is not implemented here.
func GetsockoptBytes(int, int, int, []byte) (int, error) { return 0, errors.ErrUnsupported }

// OutQueue is not implemented here.
func OutQueue(int) (int, syscall.Errno) { return 0, syscall.ENOSYS }

// RenameNoReplace is not implemented here.
func RenameNoReplace(string, string) error { return errors.ErrUnsupported }

// Poll is not implemented here.
func Poll(int, int16, int) (int16, error) { return 0, errors.ErrUnsupported }

// Recv is not implemented here.
func Recv(int, []byte, int) (int, error) { return 0, errors.ErrUnsupported }

// Pipe is not implemented here.
func Pipe() ([2]int, error) { return [2]int{-1, -1}, errors.ErrUnsupported }

// SetPipeSize is not implemented here.
func SetPipeSize(int, int) (int, error) { return 0, errors.ErrUnsupported }

// Tee is not implemented here.
func Tee(int, int, int, int) (int, error) { return 0, errors.ErrUnsupported }
