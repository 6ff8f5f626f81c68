package transmit

import (
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// countedPool returns a pool, and how many descriptors of its pipes are open.
func countedPool() (*pipePool, *atomic.Int64) {
	k, open := kernel, new(atomic.Int64)
	k.Pipe = func() ([2]int, error) {
		fds, err := kernel.Pipe()
		if err == nil {
			open.Add(2)
		}
		return fds, err
	}
	k.Close = func(fd int) error {
		err := kernel.Close(fd)
		if err == nil {
			open.Add(-1)
		}
		return err
	}
	return &pipePool{calls: &k}, open
}

func TestPipePoolIsBounded(t *testing.T) {
	pool, open := countedPool()
	var all []*pipe
	for range 3 * maxIdlePipes {
		p, err := pool.get()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, p := range all {
		pool.put(p)
	}
	if got := open.Load(); got != 2*(maxIdlePipes+1) {
		t.Errorf("%d descriptors of pipes are kept, want those of %d", got, maxIdlePipes+1)
	}
	// What is taken between two looks stays.
	pool.age()
	p, err := pool.get()
	if err != nil {
		t.Fatal(err)
	}
	pool.put(p)
	pool.age()
	if got := open.Load(); got != 2 {
		t.Errorf("%d descriptors of pipes are kept after a while, want those of the one in use", got)
	}
	pool.age()
	if got := open.Load(); got != 0 {
		t.Errorf("%d descriptors of pipes are kept for ever", got)
	}
	if pool.looking.Load() {
		t.Error("a timer runs for an empty pool")
	}
	pool.drop(t)
}

func TestPipeWithBytesIsNotReused(t *testing.T) {
	pool, open := countedPool()
	p, err := pool.get()
	if err != nil {
		t.Fatal(err)
	}
	f := fileOf(t, pattern(5000))
	if n, err := p.fill(pool.calls, int(f.Fd()), nil, 5000); n != 5000 || err != nil {
		t.Fatal(n, err)
	}
	pool.put(p)
	if got := open.Load(); got != 0 {
		t.Errorf("%d descriptors of a pipe with bytes are kept", got)
	}
}

func TestPipeSizes(t *testing.T) {
	for _, c := range []struct{ allowed, want int }{{pipeBytes, pipeBytes}, {512 << 10, 512 << 10}, {200_000, 128 << 10}, {0, 0}} {
		k := kernel
		asked := 0
		k.SetPipeSize = func(fd, bytes int) (int, error) {
			asked++
			if bytes > c.allowed {
				return 0, sys.Wrap("fcntl F_SETPIPE_SZ", syscall.EPERM)
			}
			return kernel.SetPipeSize(fd, bytes)
		}
		pool := &pipePool{calls: &k}
		p, err := pool.get()
		if err != nil || p.size != c.want {
			t.Errorf("allowed %d: %+v, %v; want %d", c.allowed, p, err, c.want)
			continue
		}
		if n, err := sys.PipeSize(p.r); err != nil || c.want > 0 && n != c.want {
			t.Errorf("allowed %d: the kernel says %d, %v", c.allowed, n, err)
		}
		// When the limit is relieved the pipe grows, but not every use tries.
		allowed := c.allowed
		c.allowed = pipeBytes
		asked = 0
		for range growEvery {
			pool.put(p)
			if p, err = pool.get(); err != nil {
				t.Fatal(err)
			}
		}
		if p.size != pipeBytes || asked > 1 {
			t.Errorf("allowed %d, then %d: size %d after %d attempts", allowed, pipeBytes, p.size, asked)
		}
		pool.put(p)
		pool.drop(t)
	}
}

// Users who are over their share of pipe memory get tiny pipes, which must do.
func TestTinyPipes(t *testing.T) {
	testenv.Root(t)
	content := pattern(300_001)
	k := kernel
	k.SetPipeSize = func(int, int) (int, error) { return 0, sys.Wrap("fcntl F_SETPIPE_SZ", syscall.EPERM) }
	k.Pipe = func() ([2]int, error) {
		p, err := kernel.Pipe()
		if err == nil {
			_, err = unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, 4096)
		}
		return p, err
	}
	for _, src := range sources {
		for _, dst := range targets {
			pool := &pipePool{calls: &k}
			r := newRelay()
			r.calls, r.pipes, r.ctx, r.left, r.opts.OnDowngrade = &k, pool, t.Context(), unbounded, func(*Downgrade) {}
			to, arrived := dst.open(t)
			if res, err := r.run(to, src.open(t, content)); err != nil || res.Bytes != int64(len(content)) {
				t.Errorf("%s to %s: %+v, %v", src.name, dst.name, res, err)
			}
			sameContent(t, src.name+" to "+dst.name, arrived(), content)
			pool.drop(t)
		}
	}
}

func TestPipePoolAtOnce(t *testing.T) {
	pool, open := countedPool()
	var wg sync.WaitGroup
	var mu sync.Mutex
	used := map[*pipe]bool{}
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				p, err := pool.get()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if used[p] {
					t.Error("a pipe has two users")
				}
				used[p] = true
				mu.Unlock()
				mu.Lock()
				used[p] = false
				mu.Unlock()
				pool.put(p)
				if i%100 == 0 {
					pool.age()
				}
			}
		})
	}
	wg.Wait()
	pool.age()
	pool.age()
	if got := open.Load(); got != 0 {
		t.Errorf("%d descriptors of pipes are left", got)
	}
}
