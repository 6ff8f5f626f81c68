package transmit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testMappings(t testing.TB, o MappingsOptions) *Mappings {
	t.Helper()
	c := NewMappings(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func lookup(t testing.TB, c *Mappings, f *os.File) Mapping {
	t.Helper()
	m, err := c.Lookup(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// write puts content into a file in place.
func write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMappingsFollowTheFile changes a file in all the ways that files change.
func TestMappingsFollowTheFile(t *testing.T) {
	c := testMappings(t, MappingsOptions{})
	f, want := testFile(t, 10000)
	name := f.Name()
	other := filepath.Join(filepath.Dir(name), "other")
	var before Mapping
	for _, step := range []struct {
		name   string
		change func()
		same   bool // region as before
	}{
		{"mapped", func() {}, false},
		{"again", func() {}, true},
		{"by another descriptor", func() { f = openFile(t, name, os.O_RDWR) }, true},
		{"grown", func() { want = append(want, want...); write(t, name, want) }, false},
		{"shrunk", func() { want = want[:5000]; write(t, name, want) }, false},
		{"emptied", func() { want = nil; write(t, name, want) }, false},
		{"rewritten", func() { want = bytes.Repeat([]byte("new"), 3000); write(t, name, want) }, false},
		{"same size", func() {
			want = bytes.Repeat([]byte("old"), 3000)
			// Beyond the tick in which kernels to 6.12 see no change of the times.
			time.Sleep(20 * time.Millisecond)
			write(t, name, want)
		}, false},
		{"replaced", func() {
			want = bytes.Repeat([]byte("xyz"), 3000)
			write(t, other, want)
			if err := os.Rename(other, name); err != nil {
				t.Fatal(err)
			}
			f = openFile(t, name, os.O_RDONLY)
		}, false},
		{"removed", func() {
			time.Sleep(20 * time.Millisecond) // as above
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}, false}, // its ctime changed
		{"purged", c.Purge, false},
	} {
		step.change()
		m := lookup(t, c, f)
		if m.Size() != int64(len(want)) || !bytes.Equal(content(t, m, 0, m.Size()), want) {
			t.Errorf("%s: %d bytes, or not those of the file", step.name, m.Size())
		}
		if before.region != nil {
			if same := m.region == before.region; same != step.same {
				t.Errorf("%s: the mapping of before: %v, want %v", step.name, same, step.same)
			}
			before.Release()
		}
		before = m
	}
	before.Release()
	c.Purge()
	if st := c.Stats(); st.Files != 0 || st.Bytes != 0 || st.Hits != 2 || st.Hits+st.Misses+st.Changed != 11 {
		t.Errorf("%+v", st)
	}
	if n := mapped(t, name); n != 0 {
		t.Errorf("%d mappings are left", n)
	}
}

// TestMappingsBound keeps as many bytes as it may, those that were used last.
func TestMappingsBound(t *testing.T) {
	c := testMappings(t, MappingsOptions{MaxBytes: 3 * 4096})
	var files []*os.File
	for i := range 5 {
		name := filepath.Join(t.TempDir(), fmt.Sprint("f", i))
		write(t, name, make([]byte, 4096))
		files = append(files, openFile(t, name, os.O_RDONLY))
	}
	use := func(i int) { m := lookup(t, c, files[i]); m.Release() }
	kept := func(when string, want ...bool) {
		t.Helper()
		for i, w := range want {
			if got := mapped(t, files[i].Name()) > 0; got != w {
				t.Errorf("%s: file %d is mapped: %v, want %v", when, i, got, w)
			}
		}
	}
	for i := range 3 {
		use(i)
	}
	kept("all fit", true, true, true, false)
	use(0)
	held := lookup(t, c, files[1])
	use(0)
	use(3)
	kept("the oldest goes", true, true, false, true)
	use(4)
	use(0)
	use(3)
	use(2)
	// File 1 is out of the store and in use.
	kept("one is in use", true, true, true, true, false)
	if !bytes.Equal(content(t, held, 0, 4096), make([]byte, 4096)) {
		t.Error("what is in use is another")
	}
	held.Release()
	kept("its user is gone", true, false, true, true, false)
	big, _ := testFile(t, 4*4096)
	m := lookup(t, c, big)
	kept("for a file that is too big nothing goes", true, false, true, true)
	m.Release()
	if n := mapped(t, big.Name()); n != 0 {
		t.Error("a file over the bound is kept")
	}
	if st := c.Stats(); st.Files != 3 || st.Bytes != 3*4096 || st.TooBig != 1 || st.Evicted != 3 {
		t.Errorf("%+v", st)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	use(0)
	kept("closed", false, false, false, false, false)
}

// TestMappingsIdle lets go of what nobody asks for.
func TestMappingsIdle(t *testing.T) {
	c := testMappings(t, MappingsOptions{IdleFor: 10 * time.Millisecond})
	f, _ := testFile(t, 4096)
	m := lookup(t, c, f)
	m.Release()
	for range 1000 {
		if mapped(t, f.Name()) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if st := c.Stats(); st.Files != 0 || st.Evicted != 1 || mapped(t, f.Name()) != 0 {
		t.Errorf("%+v", st)
	}
	c.mu.Lock()
	for range 3 { // with nothing left it does not wake up again
		c.mu.Unlock()
		time.Sleep(15 * time.Millisecond)
		c.mu.Lock()
	}
	if c.timer != nil {
		t.Error("the timer runs for nothing")
	}
	c.mu.Unlock()
}

// TestMappingsConcurrent looks the same few files up from many goroutines, while
// they change.
func TestMappingsConcurrent(t *testing.T) {
	c := testMappings(t, MappingsOptions{MaxBytes: 3 * 8192, IdleFor: time.Millisecond})
	var files []*os.File
	for range 4 {
		f, _ := testFile(t, 8192)
		files = append(files, f)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				f := files[(i+w)%len(files)]
				if w == 0 && i%50 == 0 {
					if err := os.Truncate(f.Name(), int64(4096+i)); err != nil {
						t.Error(err)
					}
				}
				m, err := c.Lookup(f)
				if err != nil {
					t.Error(err)
					return
				}
				r, err := m.lend()
				if err != nil {
					t.Error(err)
					return
				}
				if i%100 == 0 {
					c.Purge()
				}
				m.Release()
				r.returned(i%2 == 0)
			}
		})
	}
	wg.Wait()
	c.Purge()
	for _, f := range files {
		if n := mapped(t, f.Name()); n != 0 {
			t.Errorf("%d mappings are left", n)
		}
	}
}

// TestMappingsAllocateNothing looks up, faults in and asks for residency again and
// again.
func TestMappingsAllocateNothing(t *testing.T) {
	c := testMappings(t, MappingsOptions{})
	f, _ := testFile(t, 1<<20)
	use := func() {
		m := lookup(t, c, f)
		if n, err := m.Resident(f, 0, m.Size()); n != m.Size() || err != nil {
			t.Fatal(n, err)
		}
		if err := m.FaultIn(0, m.Size()); err != nil {
			t.Fatal(err)
		}
		if b, err := m.Bytes(4096, 65536); len(b) != 65536 || err != nil {
			t.Fatal(err)
		}
		r, err := m.lend()
		if err != nil {
			t.Fatal(err)
		}
		m.Release()
		r.returned(false)
	}
	use()
	if n := testing.AllocsPerRun(200, use); n != 0 {
		t.Errorf("%v allocations for a lookup", n)
	}
	m := lookup(t, c, f)
	defer m.Release()
	m.region.told = false
	if _, err := m.Resident(f, 0, 1<<20); errors.Is(err, errors.ErrUnsupported) {
		return // tmpfs does not tell, and an error may allocate
	}
	if n := testing.AllocsPerRun(200, func() { m.Resident(f, 0, 1<<20) }); n != 0 {
		t.Errorf("%v allocations for samples", n)
	}
}

func BenchmarkMappings(b *testing.B) {
	for _, size := range []int64{256 << 10, 1 << 20, 16 << 20} {
		f, _ := testFile(b, int(size))
		c := testMappings(b, MappingsOptions{})
		m := lookup(b, c, f)
		defer m.Release()
		if err := m.FaultIn(0, size); err != nil {
			b.Fatal(err)
		}
		fd := int(f.Fd())
		mem, err := m.Bytes(0, size)
		if err != nil {
			b.Fatal(err)
		}
		pages := make([]byte, size/4096)
		scratch := make([]byte, size)
		bench := func(name string, fn func() error) {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := fn(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		bench("lookup", func() error { m, err := c.Lookup(f); m.Release(); return err })
		mapping := func(fault func(m Mapping) error) func() error {
			return func() error {
				m, err := MapFile(f)
				if err != nil {
					return err
				}
				defer m.Release()
				return fault(m)
			}
		}
		bench("map", mapping(func(Mapping) error { return nil }))
		bench("map+faultin", mapping(func(m Mapping) error { return m.FaultIn(0, size) }))
		bench("map+touch", mapping(func(m Mapping) error { p, err := m.Bytes(0, size); m.region.ops.touch(p); return err }))
		bench("mmap-populate", func() error {
			p, err := kernelCalls().Map(nil, fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
			if err != nil {
				return err
			}
			return kernelCalls().Unmap(p)
		})
		bench("faultin-again", func() error { return kernelCalls().Madvise(mem, unix.MADV_POPULATE_READ) })
		bench("faultin-remembered", func() error { return m.FaultIn(0, size) })
		bench("resident", func() error { _, err := m.Resident(f, 0, size); return err })
		bench("mincore", func() error { return kernelCalls().Mincore(mem, pages) })
		bench("cachestat", func() error { _, err := kernelCalls().CachedRange(fd, 0, size); return err })
		bench("samples", func() error { _, err := m.region.ops.sampleDescriptor(fd, 0, size); return err })
		bench("nowait-all", func() error { _, err := kernelCalls().PreadNowait(fd, scratch, 0); return err })
	}
}
