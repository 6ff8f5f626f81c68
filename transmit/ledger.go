package transmit

// loan is memory that was lent to the kernel and comes back.
type loan interface {
	// returned says that the kernel has let go of it, or, if abandoned, that it
	// will never be known to: the memory must not be written again.
	returned(abandoned bool)
}

// ledger keeps account of what a connection's sends have lent to the kernel, and
// when it comes back. It makes no system call, and its owner locks it.
//
// The kernel numbers sends with MSG_ZEROCOPY by a counter of 32 bits that wraps,
// and notifies ranges of numbers, merged and in any order. A transfer takes any
// number of such sends; it is an entry, which comes back when all of its sends
// are notified and, where that is asked for, the peer has acknowledged its last
// byte. Entries are used again, and tell one use from the next by a generation.
type ledger struct {
	entries []entry
	free    fifo  // entries to use again, the longest released first
	gated   []int // entries that only wait for the peer, in order of their end
	out     int   // entries not released
	ids     idRing
	acked   uint64 // bytes of the connection's sends that the peer acknowledged
	taken   uint64 // of these, what does not wait on this machine to be read
	foreign uint64 // notified sends that are none of ours
}

// entry is one transfer.
type entry struct {
	gen     uint32
	pending int // sends not notified, and one while the transfer is under way
	// end is the position in the stream after the last byte, and gate whether the
	// peer must have acknowledged it.
	end  uint64
	gate bool
	// shared says that the peer, if it is on this machine, reads our own pages.
	shared bool
	out    bool // not released

	notified, copied int // sends
	result           Result
	err              error

	parts   [][]byte // memory of the caller that stays referenced
	loans   []loan
	waiters int
	woken   chan struct{} // made by the first who waits, and kept
}

// keepEntries is how many transfers of the past can still be asked about, at
// least.
const keepEntries = 64

// open makes an entry for a transfer that begins.
func (l *ledger) open() int {
	var i int
	if l.free.n > 0 && len(l.entries) >= keepEntries {
		i = l.free.pop()
	} else {
		i = len(l.entries)
		l.entries = append(l.entries, entry{})
	}
	e := &l.entries[i]
	*e = entry{gen: e.gen + 1, pending: 1, out: true, parts: e.parts[:0], loans: e.loans[:0], woken: e.woken}
	l.out++
	return i
}

// charge notes that an entry keeps a loan, which comes back at once if the entry was
// abandoned already.
func (l *ledger) charge(i int, m loan) {
	if e := &l.entries[i]; e.out {
		e.loans = append(e.loans, m)
	} else {
		m.returned(true)
	}
}

// sending notes that a send of the entry is about to be made with MSG_ZEROCOPY:
// its notification may come before the call returns.
func (l *ledger) sending(i int) {
	l.ids.push(uint32(i))
	l.entries[i].pending++
}

// notSent takes back the last sending: the call failed, and the kernel gives the
// number to the next.
func (l *ledger) notSent(i int) {
	l.ids.unpush()
	l.entries[i].pending--
}

// close ends the transfer's own part: all that it sends is sent. end is the
// position in the stream after it, and gate whether the peer must acknowledge.
func (l *ledger) close(i int, r Result, end uint64, gate bool) {
	e := &l.entries[i]
	e.result, e.end, e.gate = r, end, gate
	l.settle(i)
}

// notify takes in that the kernel has let go of the sends lo to hi. These
// numbers wrap, as do those of ours that are not notified yet.
func (l *ledger) notify(lo, hi uint32, copied bool) {
	r := &l.ids
	if hi-lo >= 1<<31 { // more than can be outstanding: not what the kernel means
		l.foreign += uint64(hi-lo) + 1
		return
	}
	k := lo - r.first
	if k >= r.n {
		k = 0 // lo is before the first of ours, or the range holds none
	}
	matched := uint64(0)
	for ; k < r.n && r.first+k-lo <= hi-lo; k++ {
		i, ok := r.take(k)
		if !ok {
			continue
		}
		matched++
		e := &l.entries[i]
		e.notified++
		if copied {
			e.copied++
		}
		l.settle(int(i))
	}
	r.trim()
	l.foreign += uint64(hi-lo) + 1 - matched
}

// sound sets the number of the only send that is not notified, which was not
// known before.
func (l *ledger) sound(id uint32) {
	i := l.ids.entry[l.ids.place(0)]
	l.ids.first, l.ids.n = id, 0
	l.ids.push(i)
}

// settle takes one from what an entry waits for.
func (l *ledger) settle(i int) {
	e := &l.entries[i]
	e.pending--
	switch {
	case e.pending > 0 || !e.out: // or abandoned while it was under way
	case e.gate && !l.reached(e):
		l.gated = append(l.gated, i)
	default:
		l.release(i, false)
	}
}

// reached reports whether the peer has all of an entry.
func (l *ledger) reached(e *entry) bool {
	return e.end <= l.acked && (!e.shared || e.end <= l.taken)
}

// sharing reports whether an entry that waits for the peer is shared with it.
func (l *ledger) sharing() bool {
	for _, i := range l.gated {
		if l.entries[i].shared {
			return true
		}
	}
	return false
}

// acknowledge takes in how many bytes the peer has acknowledged in all.
func (l *ledger) acknowledge(bytes uint64) { l.take(bytes, bytes) }

// take takes in how many bytes the peer has acknowledged, and how many of these no
// longer wait on this machine to be read.
func (l *ledger) take(acked, taken uint64) {
	if acked <= l.acked && taken <= l.taken {
		return
	}
	l.acked, l.taken = max(l.acked, acked), max(l.taken, taken)
	kept := l.gated[:0]
	for _, i := range l.gated {
		if !l.reached(&l.entries[i]) {
			kept = append(kept, i)
		} else {
			l.release(i, false)
		}
	}
	l.gated = kept
}

// openGate releases what only waits for the peer: the connection is dead and its
// queues are empty.
func (l *ledger) openGate(err error) {
	for _, i := range l.gated {
		l.entries[i].err = err
		l.release(i, false)
	}
	l.gated = l.gated[:0]
}

// abandon gives up everything that is out, and returns how many transfers and
// bytes that were.
func (l *ledger) abandon(err error) (transfers int, bytes int64) {
	for i := range l.entries {
		if e := &l.entries[i]; e.out {
			transfers++
			bytes += e.result.Bytes
			e.err = err
			l.release(i, true)
		}
	}
	l.gated = l.gated[:0]
	l.ids = idRing{}
	return transfers, bytes
}

func (l *ledger) release(i int, abandoned bool) {
	e := &l.entries[i]
	e.out = false
	e.result.Reported = reported(e.notified, e.copied)
	for k, m := range e.loans {
		m.returned(abandoned)
		if l, ok := m.(*leaseLoan); ok && e.err == nil {
			e.err = l.err
		}
		e.loans[k] = nil
	}
	if abandoned {
		holdAbandoned(e.parts)
	}
	clear(e.parts)
	e.parts, e.loans = e.parts[:0], e.loans[:0]
	l.out--
	l.free.push(i)
	e.wake()
}

// wake lets one who waits look again; who looked passes it on.
func (e *entry) wake() {
	if e.waiters > 0 {
		select {
		case e.woken <- struct{}{}:
		default:
		}
	}
}

func reported(notified, copied int) Reported {
	switch {
	case notified == 0:
		return NotReported
	case copied == 0:
		return Uncopied
	case copied == notified:
		return Copied
	}
	return Mixed
}

// shrink gives back the memory of a ledger in which nothing is out.
func (l *ledger) shrink() {
	if l.out == 0 && len(l.ids.entry) > 8 {
		l.ids.entry = nil
	}
	l.gated = nil
}

// idRing maps the numbers that the kernel gave to sends, first to first+n-1, to
// entries.
type idRing struct {
	entry []uint32 // a power of two of places; that of a number is its low bits
	first uint32
	n     uint32
}

const taken = ^uint32(0)

func (r *idRing) push(entry uint32) {
	if int(r.n) == len(r.entry) {
		r.grow()
	}
	r.entry[r.place(r.n)] = entry
	r.n++
}

func (r *idRing) unpush() { r.n-- }

func (r *idRing) place(k uint32) uint32 { return (r.first + k) & uint32(len(r.entry)-1) }

// take returns the entry of the k-th number and marks it, false if it is marked.
func (r *idRing) take(k uint32) (uint32, bool) {
	p := &r.entry[r.place(k)]
	i := *p
	*p = taken
	return i, i != taken
}

// trim drops marked numbers in front.
func (r *idRing) trim() {
	for r.n > 0 && r.entry[r.place(0)] == taken {
		r.first++
		r.n--
	}
}

func (r *idRing) grow() {
	old := *r
	r.entry = make([]uint32, max(8, 2*len(old.entry)))
	for k := range old.n {
		r.entry[r.place(k)] = old.entry[old.place(k)]
	}
}

// fifo is a queue of entries.
type fifo struct {
	items []int
	head  int
	n     int
}

func (q *fifo) push(i int) {
	if q.n == len(q.items) {
		grown := make([]int, max(8, 2*len(q.items)))
		for k := range q.n {
			grown[k] = q.items[(q.head+k)%len(q.items)]
		}
		q.items, q.head = grown, 0
	}
	q.items[(q.head+q.n)%len(q.items)] = i
	q.n++
}

func (q *fifo) pop() int {
	i := q.items[q.head]
	q.head = (q.head + 1) % len(q.items)
	q.n--
	return i
}
