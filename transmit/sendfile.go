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

	// Snapshot says that the file may change at any time: it is copied, and what
	// was read is what is sent, to the retransmission. Every call reads one piece,
	// so that a change in between is still seen by a part of a large file; a whole
	// one in a consistent state takes a reflink, a lease or a lock of its own.
	// Without it the kernel sends references to the file's pages, and what these
	// hold when a packet leaves.
	Snapshot bool

	// Immutable says that the file cannot change, a sealed memfd or a file with
	// fs-verity: it is not looked at again while it is sent.
	Immutable bool
}

// errRelay says where to go with a source that has no positions.
var errRelay = fmt.Errorf("it has no positions to send from, Relay sends it: %w", errors.ErrUnsupported)

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
