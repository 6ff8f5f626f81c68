//go:build !linux

package sys

import "errors"

// TerminalColumns is not implemented here: output is formatted as for a file.
func TerminalColumns(uintptr) (int, error) { return 0, errors.ErrUnsupported }
