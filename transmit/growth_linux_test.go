package transmit

import (
	"errors"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestRaiseKeepsLocks raises a send buffer: autotuning of it goes on, and what the
// application has said of the receive buffer stays.
func TestRaiseKeepsLocks(t *testing.T) {
	out, _ := tcpPair(t)
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	k := kernelSocketCalls()
	err = raw.Control(func(f uintptr) {
		fd := int(f)
		if _, err := k.GetInt(fd, sys.SolSocket, sys.SoBufLock); errors.Is(err, errors.ErrUnsupported) {
			t.Skip("needs a kernel with SO_BUF_LOCK")
		}
		locks := func() int {
			v, err := k.GetInt(fd, sys.SolSocket, sys.SoBufLock)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if err := k.SetInt(fd, sys.SolSocket, sys.SoRcvbuf, 100_000); err != nil {
			t.Fatal(err)
		}
		before, _ := k.Memory(fd)
		receive := locks()
		g := growth{most: 1 << 20}
		if size := g.raise(k, fd, before.SendBuffer, before.SendBuffer+50_000); size < before.SendBuffer+50_000-1 {
			t.Errorf("%d bytes became %d", before.SendBuffer, size)
		}
		if got := locks(); receive == 0 || got != receive {
			t.Errorf("locks %d before, %d after", receive, got)
		}
		if err := k.SetInt(fd, sys.SolSocket, sys.SoSndbuf, 60_000); err != nil {
			t.Fatal(err)
		}
		own, _ := k.Memory(fd)
		if size := g.raise(k, fd, own.SendBuffer, 1<<20); size != own.SendBuffer {
			t.Errorf("a size that the application has set became %d", size)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
