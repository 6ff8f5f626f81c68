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

// GetsockoptInt needs Linux.
func GetsockoptInt(int, int, int) (int, error) { return 0, errors.ErrUnsupported }

// GetsockoptBytes needs Linux.
func GetsockoptBytes(int, int, int, []byte) (int, error) { return 0, errors.ErrUnsupported }

// OutQueue needs Linux.
func OutQueue(int) (int, syscall.Errno) { return 0, syscall.ENOSYS }

// RenameNoReplace needs Linux.
func RenameNoReplace(string, string) error { return errors.ErrUnsupported }

// OTmpfile makes open(2) fail, as there is no such file elsewhere.
const OTmpfile = syscall.O_CREAT | syscall.O_EXCL

// LinkDescriptor needs Linux.
func LinkDescriptor(int, string) error { return errors.ErrUnsupported }

// HasDescriptorNames is false outside Linux.
func HasDescriptorNames() bool { return false }

// Poll needs Linux.
func Poll(int, int16, int) (int16, error) { return 0, errors.ErrUnsupported }

// Recv needs Linux.
func Recv(int, []byte, int) (int, error) { return 0, errors.ErrUnsupported }

// Pipe needs Linux.
func Pipe() ([2]int, error) { return [2]int{-1, -1}, errors.ErrUnsupported }

// SetPipeSize needs Linux.
func SetPipeSize(int, int) (int, error) { return 0, errors.ErrUnsupported }

// Tee needs Linux.
func Tee(int, int, int, int) (int, error) { return 0, errors.ErrUnsupported }
