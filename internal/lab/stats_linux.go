package lab

import (
	"fmt"
	"sync"
	"time"
)

// Stats counts what a sink has done since it was made.
type Stats struct {
	TCP, UDP Traffic

	Opened        uint64 // connections, each SYN that began one
	Closed        uint64 // of these, in any way
	ResetBySender uint64
	ResetBySink   uint64

	Acks       uint64 // TCP segments that the sink sent, of any kind
	Duplicates uint64 // TCP segments with nothing new
	OutOfOrder uint64 // TCP segments that arrived after a hole
	Discarded  uint64 // TCP segments beyond the window, or behind the ninth hole

	// Fragments are the IP fragments of datagrams but the first of each. Their
	// bytes count here and with no flow, as they have no ports.
	Fragments uint64
	Other     uint64 // packets of other protocols

	// None of these may be other than 0, or something is wrong with the sink.
	Refused uint64 // SYNs for which there was no room; see Options.MaxFlows
	Strays  uint64 // TCP segments of no connection
	Lost    uint64 // answers that could not be sent
}

// Stats returns the counts. They are exact when nothing is on its way. It is an
// error if the sink does not answer any more.
func (s *Sink) Stats() (Stats, error) {
	if err := s.acker.failed(); err != nil {
		return Stats{}, fmt.Errorf("sink: %w", err)
	}
	t, err := readTotals(s.programs)
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		TCP:           Traffic{Bytes: t.TcpBytes, Packets: t.TcpPackets, Segments: t.TcpSegments},
		UDP:           Traffic{Bytes: t.UdpBytes, Packets: t.UdpPackets, Segments: t.UdpDatagrams},
		Opened:        t.Opened,
		Closed:        t.Closed,
		ResetBySender: t.ResetBySender,
		ResetBySink:   t.ResetBySink,
		Acks:          t.Acks,
		Duplicates:    t.Duplicates,
		OutOfOrder:    t.OutOfOrder,
		Discarded:     t.Discarded,
		Fragments:     t.UdpFragments,
		Other:         t.Other,
		Refused:       t.Refused,
		Strays:        t.Strays,
		Lost:          t.Lost,
	}, nil
}

// readTotals adds up what the CPUs have counted.
func readTotals(programs sinkObjects) (sinkTotals, error) {
	var each []sinkTotals
	var sum sinkTotals
	if err := programs.TotalsOf.Lookup(uint32(0), &each); err != nil {
		return sum, fmt.Errorf("sink: totals: %w", err)
	}
	for _, t := range each {
		sum.TcpBytes += t.TcpBytes
		sum.TcpPackets += t.TcpPackets
		sum.TcpSegments += t.TcpSegments
		sum.UdpBytes += t.UdpBytes
		sum.UdpPackets += t.UdpPackets
		sum.UdpDatagrams += t.UdpDatagrams
		sum.UdpFragments += t.UdpFragments
		sum.Opened += t.Opened
		sum.Created += t.Created
		sum.Closed += t.Closed
		sum.ResetBySender += t.ResetBySender
		sum.ResetBySink += t.ResetBySink
		sum.Acks += t.Acks
		sum.Duplicates += t.Duplicates
		sum.OutOfOrder += t.OutOfOrder
		sum.Discarded += t.Discarded
		sum.Refused += t.Refused
		sum.Strays += t.Strays
		sum.Other += t.Other
		sum.Lost += t.Lost
	}
	return sum, nil
}

// A sweeper forgets connections that have been closed for a while, once half the
// room for flows is taken. The program itself forgets none: an entry must stay
// for as long as another CPU may be at work on it.
type sweeper struct {
	programs sinkObjects
	max      int

	swept    uint64
	suspects map[sinkKey]uint32 // closed when last looked at, and which opening that was

	stop chan struct{}
	done sync.WaitGroup
	err  error // the first; to be read after done
}

const sweepInterval = time.Second

func startSweeper(programs sinkObjects, maxFlows int) *sweeper {
	w := &sweeper{programs: programs, max: maxFlows, stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(sweepInterval)
		defer tick.Stop()
		for w.err == nil {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				w.err = w.look()
			}
		}
	})
	return w
}

func (w *sweeper) look() error {
	t, err := readTotals(w.programs)
	if err != nil {
		return err
	}
	if t.Created-w.swept <= uint64(w.max/2) {
		return nil
	}
	return w.sweep()
}

// sweep deletes the flows that were closed at the last sweep and still are.
func (w *sweeper) sweep() error {
	flows, err := readFlows(w.programs.Flows)
	if err != nil {
		return fmt.Errorf("sink: sweep: %w", err)
	}
	suspects := make(map[sinkKey]uint32)
	for key, f := range flows {
		if f.Flags&sinkFlowFlagFLOW_CLOSED == 0 {
			continue
		}
		if open, ok := w.suspects[key]; !ok || open != f.Open {
			suspects[key] = f.Open
			continue
		}
		if err := w.forget(key); err != nil {
			return fmt.Errorf("sink: sweep: %w", err)
		}
	}
	w.suspects = suspects
	return nil
}

// forget deletes a flow unless it has been opened again.
func (w *sweeper) forget(key sinkKey) error {
	closed, err := control(w.programs.Control, key, sinkFlowFlagFLOW_DOOMED)
	if err != nil || !closed {
		return err
	}
	w.swept++
	return w.programs.Flows.Delete(key)
}

func (w *sweeper) close() error {
	close(w.stop)
	w.done.Wait()
	return w.err
}
