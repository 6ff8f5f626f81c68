package transmit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
)

// survives says which faults a relay must get over, with every byte.
func (f fault) survivedByRelay() bool {
	refused := []syscall.Errno{syscall.ENOSYS, syscall.EPERM, syscall.EINVAL, syscall.EOPNOTSUPP}
	switch {
	case f.err == 0:
		return true
	case f.call == "Pipe", f.call == "SetPipeSize", f.call == "FSMagic":
		return true
	case f.call == "Splice":
		return f.err == syscall.EINTR || slices.Contains(refused, f.err)
	case f.err == syscall.EINTR:
		return bare[f.call]
	}
	return false
}

// Whatever call fails, and whenever: what arrived is the beginning of what was fed,
// as long as the relay says, and what must not matter does not.
func TestRelayFaults(t *testing.T) {
	content := pattern(pipeBytes + 70_001)
	for _, src := range sources {
		for _, dst := range targets {
			if src.name != "tcp" && dst.name != "tcp" && (src.name != "pipe" || dst.name != "pipe") {
				continue // nothing new
			}
			t.Run(src.name+" to "+dst.name, func(t *testing.T) {
				for _, backend := range []Backend{"", ReadWrite} {
					run := func(t testing.TB, k *calls) (Result, []byte, error) {
						pool := &pipePool{calls: k}
						defer pool.drop(t)
						to, arrived := dst.open(t)
						r := newRelay()
						r.calls, r.pipes, r.ctx, r.left = k, pool, t.Context(), unbounded
						r.opts = RelayOptions{Backend: backend, OnDowngrade: func(*Downgrade) {}}
						res, err := r.run(to, src.open(t, content))
						return res, arrived(), err
					}
					made := callsMade(func(k *calls) {
						if res, got, err := run(t, k); err != nil || !bytes.Equal(got, content) {
							t.Fatalf("without a fault: %+v, %v, %d bytes", res, err, len(got))
						}
					})
					for _, f := range faultsOf(made) {
						t.Run(fmt.Sprintf("%s %s", f, backend), func(t *testing.T) {
							var n atomic.Int64
							res, got, err := run(t, faulty(f, &n))
							checkRelayFault(t, f, content, res, got, err)
						})
					}
				}
			})
		}
	}
}

func checkRelayFault(t *testing.T, f fault, content []byte, res Result, got []byte, err error) {
	t.Helper()
	var re *RelayError
	switch {
	case int64(len(got)) != res.Bytes:
		t.Errorf("%d bytes arrived, the relay says %d", len(got), res.Bytes)
	case !bytes.HasPrefix(content, got):
		t.Errorf("what arrived is not what was fed")
	case err == nil && len(got) != len(content):
		t.Errorf("%d of %d bytes, and no error", len(got), len(content))
	case f.survivedByRelay() && err != nil:
		t.Errorf("%v; want it to go on", err)
	case err != nil && f.err != 0 && !errors.Is(err, f.err):
		t.Errorf("%v; want %v", err, f.err)
	case err != nil && res.Bytes > 0 && (!errors.As(err, &re) || re.Written != res.Bytes || re.Read < re.Written || re.Read > int64(len(content))):
		t.Errorf("%v says %+v of %d bytes", err, re, res.Bytes)
	}
}
