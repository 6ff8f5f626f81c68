package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// TerminalColumns returns the width of the terminal behind fd (ioctl
// TIOCGWINSZ). A descriptor that is no terminal answers ENOTTY; a terminal
// that was never told its size answers 0.
func TerminalColumns(fd uintptr) (int, error) {
	ws, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return 0, fmt.Errorf("ioctl TIOCGWINSZ: %w", err)
	}
	return int(ws.Col), nil
}
