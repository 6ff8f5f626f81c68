package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// movers are the ways to send over one connection. Where two count zero-copy sends
// of one socket they would mistake each other's, so msg_zerocopy and mmap_zerocopy
// share a Sender.
type movers struct {
	track   *track
	senders map[transmit.Backend]*transmit.Sender
	ring    *transmit.Ring
	noRing  error
	memory  *memories
	file    *source
	copies  *copies
	parts   [][]byte
	sends   map[cellWay]int // how many make a run, as far as that was found out
}

// A cellWay is a way in a cell.
type cellWay struct {
	source transmit.SourceKind
	to     transmit.Protocol
	heat   transmit.CacheState
	size   int64
	b      transmit.Backend
}

func newMovers(t *track, cold int64, dir string) *movers {
	return &movers{track: t, senders: map[transmit.Backend]*transmit.Sender{}, sends: map[cellWay]int{}, memory: &memories{cold: cold},
		file: &source{cold: cold, dir: dir}, copies: &copies{dir: dir}}
}

// sender returns the Sender that goes by a backend.
func (m *movers) sender(b transmit.Backend) (*transmit.Sender, error) {
	switch b {
	case transmit.MmapZerocopy:
		b = transmit.MsgZerocopy
	case transmit.IoUringSend, transmit.IoUringSendZC:
		if m.ring == nil && m.noRing == nil {
			m.ring, m.noRing = transmit.NewRing(transmit.RingOptions{})
		}
		if m.noRing != nil {
			return nil, m.noRing
		}
		if err := m.ring.ZeroCopy(); err != nil && b == transmit.IoUringSendZC {
			return nil, err
		}
	}
	if s := m.senders[b]; s != nil {
		return s, nil
	}
	s, err := transmit.NewSender(m.track.conn, transmit.Options{
		Backend: b, Ring: m.ringOf(b), NoReader: true, OnDowngrade: func(*transmit.Downgrade) {}, // the bytes are counted
	})
	if err == nil {
		m.senders[b] = s
	}
	return s, err
}

func (m *movers) ringOf(b transmit.Backend) *transmit.Ring {
	if b == transmit.IoUringSend || b == transmit.IoUringSendZC {
		return m.ring
	}
	return nil
}

// A mover makes one send of a cell.
type mover struct {
	backend transmit.Backend
	sender  *transmit.Sender // nil: from file to file
	piece   func(ctx context.Context) error
}

// mover returns the way b of a cell.
func (m *movers) mover(ctx context.Context, g group, heat transmit.CacheState, size int64, b transmit.Backend) (*mover, error) {
	if g.to == transmit.ToFile {
		next, err := m.copies.next(heat, size, b)
		return &mover{backend: b, piece: next}, err
	}
	s, err := m.sender(b)
	if err != nil {
		return nil, err
	}
	out := &mover{backend: b, sender: s}
	if g.source == transmit.SourceFile {
		out.piece, err = m.fromFile(s, heat, size, b)
		return out, err
	}
	memory, err := m.memory.prepare(ctx, heat, size)
	if err != nil {
		return nil, err
	}
	switch b {
	case transmit.IoUringSendZC, transmit.IoUringSend:
		if b == transmit.IoUringSendZC {
			if err := memory.register(m.ring); err != nil {
				return nil, err
			}
		}
		out.piece = func(ctx context.Context) error {
			_, err := s.SendBuffer(ctx, memory.next(size))
			return err
		}
	case transmit.Writev:
		out.piece = func(ctx context.Context) error {
			m.parts = quarters(m.parts[:0], memory.next(size).Bytes())
			_, err := s.Sendv(ctx, m.parts...)
			return err
		}
	default:
		out.piece = func(ctx context.Context) error {
			_, err := s.Send(ctx, memory.next(size).Bytes())
			return err
		}
	}
	return out, nil
}

// quarters appends p in four parts.
func quarters(dst [][]byte, p []byte) [][]byte {
	const parts = 4
	each := len(p) / parts
	for range parts - 1 {
		dst, p = append(dst, p[:each]), p[each:]
	}
	return append(dst, p)
}

func (m *movers) fromFile(s *transmit.Sender, heat transmit.CacheState, size int64, b transmit.Backend) (func(context.Context) error, error) {
	if err := m.file.open(size); err != nil {
		return nil, err
	}
	o := transmit.FileOptions{Backend: b, Immutable: true}
	if b == transmit.MmapZerocopy || b == transmit.MmapWrite {
		mapping, err := m.file.mapped()
		if err != nil {
			return nil, err
		}
		o.Mapping = mapping
	}
	return func(ctx context.Context) error {
		_, err := s.SendFile(ctx, m.file.f, m.file.next(heat, size), size, o)
		return err
	}, nil
}

// run makes n sends and returns what they took until all is acknowledged. It returns
// when the memory is free, but does not count that wait: one in so few sends is none of
// their costs, and is as much as some of them.
func (m *movers) run(ctx context.Context, w *mover, n int, size int64) (benchpair.Sample, moved, error) {
	var before transmit.Stats
	if w.sender != nil {
		before = w.sender.Stats()
	}
	got, err := benchpair.Measure(m.track.clock, func() (int64, error) {
		for range n {
			if err := w.piece(ctx); err != nil {
				return 0, err
			}
		}
		if w.sender == nil {
			return int64(n) * size, nil
		}
		return int64(n) * size, m.track.acknowledged(ctx, ackTime)
	})
	if err == nil && w.sender != nil {
		err = w.sender.Drain(ctx)
	}
	if err != nil {
		return got, moved{}, fmt.Errorf("%s: %w", w.backend, err)
	}
	if w.sender == nil {
		return got, moved{bytes: got.Bytes, plain: got.Bytes}, nil
	}
	st := w.sender.Stats()
	return got, moved{bytes: st.Bytes - before.Bytes, plain: st.PlainBytes - before.PlainBytes,
		lends: st.ZerocopySends - before.ZerocopySends, copied: st.CopiedSends - before.CopiedSends}, nil
}

func (m *movers) close(ctx context.Context) error {
	errs := []error{m.memory.close(ctx), m.file.close(), m.copies.close()}
	for _, s := range m.senders {
		errs = append(errs, s.Drain(ctx)) // the connection is the track's to close
	}
	if m.ring != nil {
		errs = append(errs, m.ring.Close(ctx))
	}
	return errors.Join(errs...)
}
