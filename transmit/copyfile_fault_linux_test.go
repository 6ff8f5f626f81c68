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

// survivedByCopy says which faults a copy must get over, with every byte.
func (f fault) survivedByCopy(backend Backend) bool {
	refused := []syscall.Errno{syscall.ENOSYS, syscall.EPERM, syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EIO, syscall.EXDEV}
	switch f.call {
	case "CloneRange", "SeekData", "SeekHole", "Pipe", "SetPipeSize", "FSMagic", "Reopen", "Seek":
		return f.err != 0 && (f.call != "Seek" || slices.Contains(refused, f.err))
	case "CopyFileRange", "Sendfile", "Splice":
		return f.err == 0 || f.err == syscall.EINTR || slices.Contains(refused, f.err)
	case "Pread", "Pwrite":
		return f.err == 0 || f.err == syscall.EINTR
	}
	return false
}

func TestCopyFileFaults(t *testing.T) {
	dir := shmDir(t)
	sources := map[string][]int64{"dense": nil, "sparse": {0, 200_000, 2<<20 + 500}}
	for name, at := range sources {
		content := pattern(pipeBytes + 70_001)
		src := fileIn(t, dir, content)
		if at != nil {
			src = sparseIn(t, dir, 3<<20, pattern(50_000), at...)
			content = contentOf(t, src)
		}
		for _, backend := range copyBackends {
			t.Run(fmt.Sprintf("%s %s", name, backend), func(t *testing.T) {
				run := func(t testing.TB, k *calls) (Result, []byte, error) {
					pool := &pipePool{calls: k}
					defer pool.drop(t)
					dst := fileIn(t, dir, nil)
					c := &copier{calls: k, pipes: pool, ctx: t.Context(), opts: CopyOptions{Backend: backend, OnDowngrade: func(*Downgrade) {}}}
					res, err := c.run(dst, src, int64(len(content)))
					got := contentOf(t, dst)
					_ = dst.Close()
					return res, got, err
				}
				made := callsMade(func(k *calls) {
					if res, got, err := run(t, k); err != nil || !bytes.Equal(got, content) {
						t.Fatalf("without a fault: %+v, %v, %d bytes", res, err, len(got))
					}
				})
				faults := faultsOf(made)
				for call, n := range made {
					if call == "CopyFileRange" || call == "Sendfile" {
						// "No more", where there is more.
						faults = append(faults, fault{call: call}, fault{call: call, first: n - 1, every: true})
					}
				}
				before := openFDs(t)
				for _, f := range faults {
					t.Run(f.String(), func(t *testing.T) {
						var n atomic.Int64
						res, got, err := run(t, faulty(f, &n))
						if err != nil && f.err != 0 && !errors.Is(err, f.err) {
							t.Errorf("%v; want %v", err, f.err)
						}
						if f.survivedByCopy(backend) && err != nil {
							t.Errorf("%v; want it to go on", err)
						}
						if err == nil && res.Bytes != int64(len(content)) || int64(len(got)) < res.Bytes || !bytes.Equal(got[:res.Bytes], content[:res.Bytes]) {
							t.Errorf("%+v, %v: the copy has %d of %d bytes, or others", res, err, len(got), len(content))
						}
					})
				}
				if after := openFDs(t); after > before {
					t.Errorf("%d descriptors before, %d after", before, after)
				}
			})
		}
	}
}
