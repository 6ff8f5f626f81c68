package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// TerminalColumns returns the width of the terminal behind fd (ioctl
// TIOCGWINSZ). A descriptor that is no terminal answers ENOTTY; a terminal
// that was never told its size answers 0.
func TerminalColumns(fd uintptr) (int, error) {
	columns, _, err := TerminalSize(fd)
	return columns, err
}

// TerminalSize returns the width and the height of the terminal behind fd, as
// [TerminalColumns] does.
func TerminalSize(fd uintptr) (columns, rows int, err error) {
	ws, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, fmt.Errorf("ioctl TIOCGWINSZ: %w", err)
	}
	return int(ws.Col), int(ws.Row), nil
}

// TerminalForeground returns the process group that the terminal behind fd sends
// its signals to (ioctl TIOCGPGRP).
func TerminalForeground(fd uintptr) (int, error) {
	group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
	return group, Wrap("ioctl TIOCGPGRP", err)
}
