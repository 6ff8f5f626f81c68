package transmit

import (
	"os"
	"sync"
	"time"
)

// MappingsOptions bound what [Mappings] keep.
type MappingsOptions struct {
	// MaxBytes of files are kept mapped, 1 GiB if 0. It bounds addresses and page
	// tables (1/512 of it at most), not memory: the pages are the page cache's. A
	// larger file is mapped each time.
	MaxBytes int64
	// IdleFor is how long a file stays mapped that nobody asks for, at least, and at
	// most twice as long; a minute if 0, for ever if negative. A removed file keeps
	// its disk space, and a file system cannot be unmounted, for as long.
	IdleFor time.Duration
}

const (
	defaultMappingsBytes = 1 << 30
	defaultIdle          = time.Minute
)

// Mappings keep the files mapped that were sent last, since to map, fault in and
// unmap a file for each request costs what sending from it gains. They are used by
// any number of goroutines.
type Mappings struct {
	max  int64
	idle time.Duration
	ops  mappingOps

	mu     sync.Mutex
	files  map[fileKey]*kept
	newest *kept // ring by time of use: newest.prev is the oldest
	epoch  uint64
	timer  *time.Timer // runs while there are files
	closed bool
	stats  MappingsStats
}

// fileKey is a file, in whatever state.
type fileKey struct{ device, inode uint64 }

// kept is a file that is kept mapped by a reference of its own.
type kept struct {
	key        fileKey
	mapping    Mapping
	size       int64
	epoch      uint64 // of its last use
	prev, next *kept
}

// MappingsStats count what Mappings did.
type MappingsStats struct {
	Files   int   // mapped and kept now
	Bytes   int64 // of them
	Hits    int64
	Misses  int64 // files that were not mapped
	Changed int64 // files that had changed since they were mapped, and were mapped anew
	Evicted int64 // files unmapped for others, or for being idle
	TooBig  int64 // files over MaxBytes
}

// NewMappings makes an empty store of mappings. [Mappings.Close] ends it.
func NewMappings(o MappingsOptions) *Mappings {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMappingsBytes
	}
	if o.IdleFor == 0 {
		o.IdleFor = defaultIdle
	}
	return &Mappings{max: o.MaxBytes, idle: o.IdleFor, ops: newMappingOps(), files: map[fileKey]*kept{}}
}

// Lookup returns a reference to the mapping of the whole of f as it is now: its
// size and times are asked for each time, and a file that changed is mapped anew.
// The caller releases it. Errors are those of [MapFile].
func (c *Mappings) Lookup(f *os.File) (Mapping, error) {
	id, err := c.ops.identify(f)
	if err != nil {
		return Mapping{}, err
	}
	if m, ok := c.find(id); ok {
		return m, nil
	}
	r, err := c.ops.mapFile(f, 0, -1)
	if err != nil {
		return Mapping{}, err
	}
	m := r.acquire()
	c.keep(m)
	return m, nil
}

// find returns a reference to a file that is kept and has not changed.
func (c *Mappings) find(id fileID) (Mapping, bool) {
	var dropped drops
	defer dropped.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.files[fileKey{id.device, id.inode}]
	switch {
	case k == nil:
		c.stats.Misses++
	case k.mapping.region.id != id:
		c.stats.Changed++
		c.drop(k, &dropped)
	default:
		c.stats.Hits++
		k.epoch = c.epoch
		if k != c.newest {
			c.unlink(k)
			c.link(k)
		}
		return k.mapping.region.acquire(), true
	}
	return Mapping{}, false
}

// keep takes a reference of its own to m, in the place of what there was.
func (c *Mappings) keep(m Mapping) {
	var dropped drops
	defer dropped.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	size := int64(len(m.region.mem))
	if size > c.max {
		c.stats.TooBig++
		return
	}
	id := m.region.id
	k := &kept{key: fileKey{id.device, id.inode}, mapping: m.region.acquire(), size: size, epoch: c.epoch}
	if old := c.files[k.key]; old != nil {
		c.drop(old, &dropped)
	}
	c.files[k.key] = k
	c.link(k)
	c.stats.Bytes += size
	for c.stats.Bytes > c.max {
		c.stats.Evicted++
		c.drop(c.newest.prev, &dropped)
	}
	if c.timer == nil && c.idle > 0 {
		c.timer = time.AfterFunc(c.idle, c.sweep)
	}
}

// link puts k first; the lock is held, as for unlink and drop.
func (c *Mappings) link(k *kept) {
	if c.newest == nil {
		k.prev, k.next = k, k
	} else {
		k.next, k.prev = c.newest, c.newest.prev
		k.prev.next, k.next.prev = k, k
	}
	c.newest = k
}

func (c *Mappings) unlink(k *kept) {
	k.prev.next, k.next.prev = k.next, k.prev
	if c.newest == k {
		if c.newest = k.next; k.next == k {
			c.newest = nil
		}
	}
}

// drops are the files that were dropped under the lock, by their field next. To
// unmap a file takes a millisecond for each few hundred megabytes, and happens after
// the lock.
type drops struct{ first *kept }

func (d *drops) release() {
	for k := d.first; k != nil; k = k.next {
		k.mapping.Release()
	}
}

// drop forgets a file, which is unmapped when nobody uses it any more.
func (c *Mappings) drop(k *kept, d *drops) {
	delete(c.files, k.key)
	c.unlink(k)
	c.stats.Bytes -= k.size
	k.next, d.first = d.first, k
}

// sweep drops what was not used since the sweep before the last.
func (c *Mappings) sweep() {
	var dropped drops
	defer dropped.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	for c.newest != nil && c.newest.prev.epoch < c.epoch {
		c.stats.Evicted++
		c.drop(c.newest.prev, &dropped)
	}
	c.epoch++
	if c.newest != nil {
		c.timer = time.AfterFunc(c.idle, c.sweep)
	}
}

// Purge forgets all files, before a file system is unmounted say. Those in use
// stay mapped until they are released.
func (c *Mappings) Purge() {
	var dropped drops
	defer dropped.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropAll(&dropped)
}

func (c *Mappings) dropAll(d *drops) {
	for c.newest != nil {
		c.drop(c.newest, d)
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// Close is Purge, after which nothing is kept: Lookup maps each time.
func (c *Mappings) Close() error {
	var dropped drops
	defer dropped.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.dropAll(&dropped)
	return nil
}

// Stats returns what is kept and what was done.
func (c *Mappings) Stats() MappingsStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Files = len(c.files)
	return st
}
