package transmit_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zcprobe/zcprobe/transmit"
)

// libraryMover moves by the backend that the workload names, or by the one that
// the library selects. It fails if the library goes another way than the one that
// was named: the figure would be of something else.
func libraryMover(ctx context.Context, w workload, p props) (mover, error) {
	if w.Source == "tcp" {
		return mover{
			piece: func(_, n int64) error {
				_, err := transmit.Relay(ctx, p.conn, p.source, n, transmit.RelayOptions{Backend: w.Backend})
				return err
			},
			finish: func() (int64, int64, error) { return 0, 0, nil },
		}, nil
	}
	o := transmit.Options{Backend: w.Backend}
	if w.Backend == transmit.IoUringSendZC {
		var err error
		if o.Ring, err = transmit.NewRing(transmit.RingOptions{}); err != nil {
			return mover{}, err
		}
	}
	s, err := transmit.NewSender(p.conn, o)
	if err != nil {
		return mover{}, err
	}
	went := func(c transmit.Completion, err error) error {
		// A send of the first few may be copied, to make the send buffer grow.
		if err == nil && w.Backend != "" && c.Backend() != w.Backend && !w.Backend.Notifies() {
			return fmt.Errorf("it went by %s", c.Backend())
		}
		return err
	}
	m := mover{finish: func() (int64, int64, error) {
		err := s.Drain(ctx)
		st := s.Stats()
		if w.Backend.Notifies() && st.PlainBytes > st.Bytes/8 {
			err = errors.Join(err, fmt.Errorf("%d of %d bytes were copied", st.PlainBytes, st.Bytes))
		}
		return st.ZerocopySends, st.CopiedSends, err
	}}
	switch {
	case w.Source == "memory" && w.Backend == transmit.Writev:
		var buffers [][]byte
		m.piece = func(at, n int64) error {
			buffers = inParts(buffers[:0], p.memory[at:at+n])
			return went(s.Sendv(ctx, buffers...))
		}
	case w.Backend == transmit.IoUringSendZC:
		return fromPool(ctx, w, o.Ring, s, m)
	case w.Source == "memory":
		m.piece = func(at, n int64) error { return went(s.Send(ctx, p.memory[at:at+n])) }
	case w.MapEach:
		return mapEach(ctx, p, s, m)
	default:
		var o transmit.FileOptions
		if w.Backend == transmit.MmapWrite || w.Backend == transmit.MmapZerocopy {
			if o.Mapping, err = keptMapping(w, p); err != nil {
				return m, err
			}
		}
		m.piece = func(at, n int64) error { return went(s.SendFile(ctx, p.file, at, n, o)) }
	}
	return m, nil
}

// fromPool sends buffers of a pool, registered before the clock runs.
func fromPool(ctx context.Context, w workload, r *transmit.Ring, s *transmit.Sender, m mover) (mover, error) {
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: int(w.Size), MaxBytes: max(w.Pool, w.Size)})
	if err != nil {
		return m, err
	}
	buffers := make([]transmit.Buffer, w.Pool/w.Size)
	for i := range buffers {
		if buffers[i], err = pool.Get(ctx); err != nil {
			return m, err
		}
		for k := range buffers[i].Bytes() {
			buffers[i].Bytes()[k] = byte(i + k)
		}
		if err := r.Register(buffers[i]); err != nil {
			return m, err
		}
	}
	m.piece = func(at, n int64) error {
		b := buffers[at/w.Size]
		b.SetLen(int(n))
		_, err := s.SendBuffer(ctx, b)
		return err
	}
	return m, nil
}

// keptMapping maps the file and faults in what will be sent.
func keptMapping(w workload, p props) (transmit.Mapping, error) {
	m, err := transmit.MapFile(p.file)
	if err != nil {
		return m, err
	}
	return m, m.FaultIn(0, w.Pool)
}

// mapEach maps each piece for itself, and unmaps it when the kernel has let go of
// it.
func mapEach(ctx context.Context, p props, s *transmit.Sender, m mover) (mover, error) {
	type lent struct {
		mapping    transmit.Mapping
		completion transmit.Completion
	}
	const most = 16 // mappings at a time: as much as fits a send buffer of 4 MiB
	var out []lent
	settle := func(left int) error {
		for len(out) > left {
			if _, err := out[0].completion.Wait(ctx); err != nil {
				return err
			}
			out[0].mapping.Release()
			out = append(out[:0], out[1:]...)
		}
		return nil
	}
	m.piece = func(at, n int64) error {
		if err := settle(most - 1); err != nil {
			return err
		}
		one, err := transmit.MapFileRange(p.file, at, n)
		if err != nil {
			return err
		}
		if err := one.FaultIn(at, n); err != nil {
			return err
		}
		c, err := s.SendFile(ctx, p.file, at, n, transmit.FileOptions{Mapping: one})
		out = append(out, lent{one, c})
		return err
	}
	finish := m.finish
	m.finish = func() (int64, int64, error) {
		if err := settle(0); err != nil {
			return 0, 0, err
		}
		return finish()
	}
	return m, nil
}
