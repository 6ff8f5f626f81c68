//go:build !linux

package sys

import "errors"

// TerminalColumns is not implemented here: output is formatted as for a file.
func TerminalColumns(uintptr) (int, error) { return 0, errors.ErrUnsupported }

// TerminalSize is not implemented here.
func TerminalSize(uintptr) (columns, rows int, err error) { return 0, 0, errors.ErrUnsupported }

// TerminalForeground is not implemented here.
func TerminalForeground(uintptr) (int, error) { return 0, errors.ErrUnsupported }
