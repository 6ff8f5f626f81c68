package transmit

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
)

// FileOptions say how [Sender.SendFile] sends a file. The zero value is a good one
// for a file that nobody changes before the completion is released.
type FileOptions struct {
	// Header and Trailer are sent before and after the range, in as few calls and
	// packets as the kernel can. Like memory given to Send they must not be written
	// to before the completion is released. Over UDP all three are one datagram.
	Header, Trailer [][]byte

	// Backend is used for this file instead of Options.Backend; "" leaves it to
	// that, and if it is "" too, to the rules. What does not apply to a file is not
	// obeyed.
	Backend Backend

	// Mapping is a mapping of the file, kept by the caller, that holds the range.
	// From [MappedThreshold] bytes on it is sent from with MSG_ZEROCOPY, where the
	// path to the peer lets that pay.
	Mapping Mapping

	// Mappings do the same for a program that sends many files.
	Mappings *Mappings

	// Snapshot says that the file may change at any time: it is copied, and what
	// was read is what is sent, to the retransmission. Every call reads one piece,
	// so that a change in between is still seen by a part of a large file; a whole
	// one in a consistent state takes a reflink, a lease or a lock of its own.
	// Without it the kernel sends references to the file's pages, and what these
	// hold when a packet leaves.
	Snapshot bool

	// Lease takes a [Lease] on the file before the first byte is sent, and gives it
	// back with the completion: until then nobody can open the file for writing. If
	// it cannot be had nothing is sent. When somebody wants to write the transfer
	// ends with a [*SourceChangingError], with what went so far intact; so does
	// [Completion.Wait] if the kernel did not wait for the end. With the lease a file
	// can be sent by reference that others replace by writing into it.
	Lease bool

	// Immutable says that the file cannot change, a sealed memfd or a file with
	// fs-verity: it is not looked at again while it is sent.
	Immutable bool
}

// MappedThreshold is the size in bytes of a range from which on a mapped file is
// lent to the kernel, where nothing was measured: from 256 KiB on mmap_zerocopy beat
// sendfile by 1.5 to 2.2 times, at 64 KiB they were even (Linux 6.18, ext4 and tmpfs,
// mapping kept, 2026-11-21).
const MappedThreshold = 256 << 10

// errRelay says where to go with a source that has no positions.
var errRelay = fmt.Errorf("it has no positions to send from, Relay sends it: %w", errors.ErrUnsupported)

// errFalseEnd is what is told of a call that did not see the rest of a file.
var errFalseEnd = errors.New("nothing more to send")

// checkRange returns an error for numbers that are no range of any file.
func checkRange(offset, length int64) error {
	if offset < 0 || length < -1 || length > math.MaxInt64-offset {
		return fmt.Errorf("%d bytes at %d are no range: %w", length, offset, syscall.EINVAL)
	}
	return nil
}

// fileError names the file of an error that came before anything was sent.
func fileError(f *os.File, err error) error {
	if f == nil {
		return fmt.Errorf("transmit: send file: %w", err)
	}
	return fmt.Errorf("transmit: send file %s: %w", f.Name(), err)
}
