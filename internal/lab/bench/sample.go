package bench

import (
	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// A sample is all runs of one way at one size, and what became of the payload.
type sample struct {
	backend transmit.Backend
	runs    []benchpair.Sample
	moved   moved
}

// moved counts what a way did with the bytes.
type moved struct {
	bytes  int64
	plain  int64 // copied by the calls themselves
	lends  int64 // sends that lent memory
	copied int64 // of these, completions said copied
}

func (m *moved) add(n moved) {
	m.bytes += n.bytes
	m.plain += n.plain
	m.lends += n.lends
	m.copied += n.copied
}

// copied is the part of the bytes that a call copied, or the kernel said that it
// copied after all.
func (x *sample) copied() float64 {
	m := x.moved
	if m.bytes == 0 {
		return 0
	}
	plain := float64(m.plain) / float64(m.bytes)
	if m.lends == 0 {
		return plain
	}
	return plain + (1-plain)*float64(m.copied)/float64(m.lends)
}

// copiedFrom names who says so.
func (x *sample) copiedFrom() string {
	if x.backend.Notifies() {
		return "completions"
	}
	return "api"
}

// A cell is everything measured of one group at one size.
type cell struct {
	g       group
	heat    transmit.CacheState
	size    int64
	samples []*sample
}

func (c *cell) of(b transmit.Backend) *sample {
	for _, x := range c.samples {
		if x.backend == b {
			return x
		}
	}
	return nil
}
