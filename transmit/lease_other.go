//go:build !linux

package transmit

import (
	"errors"
	"fmt"
	"os"
)

// A Lease keeps a file from being changed for the time of a transfer. It needs
// Linux.
type Lease struct{}

// AcquireLease is an error that matches errors.ErrUnsupported.
func AcquireLease(f *os.File) (*Lease, error) {
	return nil, fmt.Errorf("lease on %s: %w", f.Name(), errors.ErrUnsupported)
}

// Check returns nil.
func (*Lease) Check() error { return nil }

// Release returns nil.
func (*Lease) Release() error { return nil }
