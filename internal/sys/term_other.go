//go:build !linux

package sys

import "errors"

// TerminalColumns needs Linux; without it output is formatted as for a file.
func TerminalColumns(uintptr) (int, error) { return 0, errors.ErrUnsupported }

// TerminalSize needs Linux.
func TerminalSize(uintptr) (columns, rows int, err error) { return 0, 0, errors.ErrUnsupported }

// TerminalForeground needs Linux.
func TerminalForeground(uintptr) (int, error) { return 0, errors.ErrUnsupported }
