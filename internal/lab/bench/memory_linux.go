package bench

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/zcprobe/zcprobe/transmit"
)

// memories are what memory is sent from. Making and filling 256 MiB takes as long as
// dozens of runs, and a quick bench goes to and fro between a few sizes: the ones that
// were used last are kept.
type memories struct {
	cold int64
	kept []*memory // the longest unused first
}

// mostKept is how many cold ones are kept, and how many hot ones: three times what
// coldBytes says is three eighths of the memory that is free.
const mostKept = 3

// A memory is buffers of one size: one of them if hot, else as many as are cold.
type memory struct {
	each    int64
	heat    transmit.CacheState
	pool    *transmit.Pool
	buffers []transmit.Buffer
	rings   bool // they are registered
	at      int
}

// bufferFor is the size of the buffers for sends of a size: whole pages, and of cold ones
// a power of two of them, which more sizes share. Sends go through at least half of the
// memory then.
func bufferFor(heat transmit.CacheState, size int64) int64 {
	page := int64(os.Getpagesize())
	if heat == transmit.CacheHot {
		return (size + page - 1) / page * page
	}
	each := page
	for each < size {
		each *= 2
	}
	return each
}

// prepare returns the memory for sends of a size.
func (m *memories) prepare(ctx context.Context, heat transmit.CacheState, size int64) (*memory, error) {
	each := bufferFor(heat, size)
	i := slices.IndexFunc(m.kept, func(k *memory) bool { return k.heat == heat && k.each == each })
	if i >= 0 {
		k := m.kept[i]
		m.kept = append(slices.Delete(m.kept, i, i+1), k)
		return k, nil
	}
	if err := m.makeRoom(ctx, heat); err != nil {
		return nil, err
	}
	k := &memory{each: each, heat: heat}
	m.kept = append(m.kept, k) // what was made of it is given back in any case
	return k, k.fill(ctx, m.cold)
}

// makeRoom gives one of a kind back if there are as many as are kept.
func (m *memories) makeRoom(ctx context.Context, heat transmit.CacheState) error {
	same, oldest := 0, -1
	for i, k := range m.kept {
		if k.heat != heat {
			continue
		}
		if same++; oldest < 0 {
			oldest = i
		}
	}
	if same < mostKept {
		return nil
	}
	k := m.kept[oldest]
	m.kept = slices.Delete(m.kept, oldest, oldest+1)
	return k.close(ctx)
}

func (m *memory) fill(ctx context.Context, cold int64) error {
	n := int64(1)
	if m.heat == transmit.CacheCold {
		n = max(2, cold/m.each)
	}
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: int(m.each), MaxBytes: n * m.each})
	if err != nil {
		return err
	}
	m.pool = pool
	for i := range n {
		b, err := pool.Get(ctx)
		if err != nil {
			return err
		}
		m.buffers = append(m.buffers, b)
		p := b.Bytes()
		for at := 0; at < len(p); at += 64 { // each line of the cache is ours, and of a page of its own
			p[at] = byte(i + int64(at))
		}
	}
	return nil
}

func (m *memory) register(r *transmit.Ring) error {
	if m.rings {
		return nil
	}
	for _, b := range m.buffers {
		if err := r.Register(b); err != nil {
			return err
		}
	}
	m.rings = true
	return nil
}

// next returns the buffer whose turn it is.
func (m *memory) next(size int64) transmit.Buffer {
	m.at++
	if m.at >= len(m.buffers) {
		m.at = 0
	}
	b := m.buffers[m.at]
	b.SetLen(int(size))
	return b
}

func (m *memory) close(ctx context.Context) error {
	for _, b := range m.buffers {
		b.Release()
	}
	m.buffers = nil
	if m.pool == nil {
		return nil
	}
	return m.pool.Close(ctx)
}

func (m *memories) close(ctx context.Context) error {
	var errs []error
	for _, k := range m.kept {
		errs = append(errs, k.close(ctx))
	}
	m.kept = nil
	return errors.Join(errs...)
}
