package transmit

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// batch is what a Batch needs to send through its ring.
type batch struct {
	r     *Ring
	group []*batchItem             // that goes by one call
	later map[*Sender][]*batchItem // what goes the ordinary way, in order
	reqs  []*request
	w     arrival
}

// batchSend is what an item needs.
type batchSend struct {
	state batchState
	hold  func(fd uintptr) // bound once
	fd    int
	n     int  // bytes that were asked for
	lends bool // rather than copies
	v     verdict
	next  int // in the group
}

type batchState uint8

const (
	batchLater   batchState = iota // goes the ordinary way, when it is its turn
	batchTurn                      // has the turn of its Sender
	batchRequest                   // a request of it is made
	batchDone
)

// batchCall is how many connections one call sends on. Their descriptors are held
// open by as many nested calls of RawConn.Control, and many more save nothing: the
// entry into the kernel is by then less than a hundredth of its work.
const batchCall = 64

// NewBatch makes a Batch that sends through the ring, on connections whose Sender
// has the ring in its Options; others are sent on one by one.
func (r *Ring) NewBatch() *Batch {
	return &Batch{batch: batch{r: r, w: arrival{ready: make(chan bool, 1)}}}
}

func (b *Batch) flush(ctx context.Context) {
	items := b.items[:b.n]
	for len(items) > 0 {
		n := min(len(items), batchCall, b.r.o.Requests)
		b.group = items[:n]
		b.begin(ctx)
		b.holdFrom(0)
		b.end()
		items = items[n:]
	}
	b.group = nil
	clear(b.reqs)
	b.finish(ctx)
}

// begin takes the turn of each Sender whose turn is to be had.
func (b *Batch) begin(ctx context.Context) {
	for i, it := range b.group {
		it.next, it.v = i+1, goOn
		if it.hold == nil {
			it.hold = func(fd uintptr) {
				it.fd = int(fd)
				b.holdFrom(it.next)
			}
		}
		if !b.takeTurn(ctx, it.s) {
			if it.state = batchLater; b.later == nil {
				b.later = map[*Sender][]*batchItem{}
			}
			b.later[it.s] = append(b.later[it.s], it)
			continue
		}
		b.open(it)
	}
}

// takeTurn takes the turn of a Sender, if it is to be had at once and nothing that
// was to be sent before waits for it.
func (b *Batch) takeTurn(ctx context.Context, s *Sender) bool {
	if s.ru == nil || s.ru.r != b.r || s.kind != kindTCP || s.ru.refused || ctx.Err() != nil || len(b.later[s]) > 0 {
		return false
	}
	select {
	case <-s.turn:
		return true
	default:
		return false
	}
}

// open begins the transfer of an item.
func (b *Batch) open(it *batchItem) {
	s := it.s
	var lent loan
	p := it.p
	if it.buffer != (Buffer{}) {
		memory, err := it.buffer.lend()
		if err != nil {
			it.fail(err)
			return
		}
		lent, p = memory, it.buffer.Bytes()
		s.registerBuffer(memory)
	}
	s.job.parts, s.job.loan = append(s.job.parts[:0], p), lent
	if err := s.openMemory(); err != nil {
		it.fail(err)
		return
	}
	it.state = batchTurn
}

func (it *batchItem) fail(err error) {
	it.err, it.state = err, batchDone
	it.s.end()
}

// holdFrom holds open the descriptors of the group from the i-th on, and then sends.
func (b *Batch) holdFrom(i int) {
	for ; i < len(b.group); i++ {
		it := b.group[i]
		if it.state != batchTurn || len(it.s.job.rest) == 0 {
			continue
		}
		it.fd = -1
		err := it.s.raw.Control(it.hold)
		if it.fd >= 0 {
			return // it went on from there
		}
		it.s.job.err, it.v = err, finish
		if err == nil {
			it.s.job.err = net.ErrClosed
		}
	}
	b.send()
}

// send makes the requests of the group, with all descriptors held open.
func (b *Batch) send() {
	b.reqs = b.reqs[:0]
	for _, it := range b.group {
		if it.state == batchTurn && it.v == goOn && len(it.s.job.rest) > 0 {
			it.request(b)
		}
	}
	if len(b.reqs) == 0 {
		return
	}
	b.r.submit(&b.w, b.reqs...)
	for _, it := range b.group {
		if it.state == batchRequest {
			it.answered()
		}
	}
}

// request makes the request of an item, if it can go through the ring now.
func (it *batchItem) request(b *Batch) {
	s := it.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.led.ids.n > 0 || s.zc.fullAt > 0 {
		return // the socket must stay writable, which Send sees to
	}
	s.ru.askPeer(s, it.fd)
	var q *request
	if k := s.ringRun(it.fd); k > 0 {
		it.lends = true
		q, it.n = s.ringRequest(it.fd, k, nil)
	} else {
		it.lends = false
		q, it.n = s.copyRequest(it.fd, 1, maxInt, sys.MsgDontwait|sys.MsgNosignal, nil)
	}
	it.state = batchRequest
	b.reqs = append(b.reqs, q)
}

// answered takes in what became of the request of an item.
func (it *batchItem) answered() {
	s := it.s
	s.mu.Lock()
	defer s.mu.Unlock()
	it.state = batchTurn
	if it.lends {
		it.v = s.ringAnswer(&s.ru.req, it.n)
		return
	}
	n, e := s.copyAnswer(&s.ru.req)
	switch e {
	case 0:
		s.advance(n, false)
		if len(s.job.rest) == 0 {
			it.v = finish
		}
	case syscall.EAGAIN, syscall.EINTR, syscall.ENOSYS:
	default:
		s.job.err, it.v = sys.Wrap("io_uring send", e), finish
	}
}

// end closes what is finished, and lets other senders have their turn.
func (b *Batch) end() {
	for _, it := range b.group {
		if it.state == batchTurn && (it.v == finish || len(it.s.job.rest) == 0) {
			it.close()
		}
	}
}

func (it *batchItem) close() {
	it.c, it.err = it.s.closeMemory()
	it.state = batchDone
	it.s.end()
}

// finish sends what is left: each connection waits for itself, and the sends of one
// go in order.
func (b *Batch) finish(ctx context.Context) {
	var wg sync.WaitGroup
	for _, it := range b.items[:b.n] {
		if it.state == batchTurn {
			wg.Go(func() {
				it.s.drive(ctx)
				it.close()
			})
		}
	}
	for _, items := range b.later {
		wg.Go(func() {
			for _, it := range items {
				if err := context.Cause(ctx); err != nil {
					it.err = fmt.Errorf("transmit: %w", err)
				} else {
					it.send(ctx)
				}
			}
		})
	}
	wg.Wait()
	b.later = nil
	runtime.KeepAlive(b)
}
