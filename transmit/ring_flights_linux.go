package transmit

import "github.com/zcprobe/zcprobe/internal/sys"

// request is one send that is handed to the kernel by a ring.
type request struct {
	sqe  sys.UringSQE
	s    *Sender // whom a notification is for
	item int     // the entry of its ledger
	gen  uint32  // of the entry
	by   *arrival

	res  int32 // bytes, or a negative errno
	more bool  // a notification follows
	lost bool  // whether it was sent is not known

	refused error // it was not made
}

// arrival is who waits for the first answers of requests.
type arrival struct {
	left   int       // requests without an answer; under the ring's lock
	parked bool      // it waits for ready
	ready  chan bool // true: it is to hand over requests
}

// flight is a request that the kernel has not answered for the last time.
type flight struct {
	req      *request // until the first answer
	s        *Sender
	item     int
	itemGen  uint32
	gen      uint32 // of the flight, in the number that the kernel gives back
	lends    bool
	first    bool // the first answer came
	more     bool // and a notification follows
	notified bool
	bytes    int32 // that were sent
	copied   bool
}

// flights is who the kernel's answers are for.
type flights struct {
	all  []flight
	free []uint32
	out  int // sends with memory that the kernel may hold
	used int
	most int
}

// begin makes a flight of a request, and false if there are too many.
func (f *flights) begin(q *request) bool {
	if f.used >= f.most {
		return false
	}
	var i uint32
	if n := len(f.free); n > 0 {
		i = f.free[n-1]
		f.free = f.free[:n-1]
	} else {
		i = uint32(len(f.all))
		f.all = append(f.all, flight{})
	}
	g := f.all[i].gen + 1
	lends := q.sqe.Opcode == sys.UringOpSendZC || q.sqe.Opcode == sys.UringOpSendmsgZC
	f.all[i] = flight{req: q, s: q.s, item: q.item, itemGen: q.gen, gen: g, lends: lends}
	q.sqe.UserData = uint64(g)<<32 | uint64(i)
	f.used++
	if lends {
		f.out++
	}
	return true
}

// of returns the flight with a number, nil if there is none.
func (f *flights) of(id uint64) *flight {
	if i := uint32(id); int(i) < len(f.all) {
		if x := &f.all[i]; x.gen == uint32(id>>32) && (x.req != nil || x.first) {
			return x
		}
	}
	return nil
}

// end takes a flight out if nothing of it is to come, and reports whether it did.
func (f *flights) end(id uint64) bool {
	x := &f.all[uint32(id)]
	if !x.first || x.more && !x.notified {
		return false
	}
	f.used--
	if x.lends {
		f.out--
	}
	*x = flight{gen: x.gen}
	f.free = append(f.free, uint32(id))
	return true
}

// landing is a notification that is to be taken in by its Sender, when no lock is
// held.
type landing struct {
	s      *Sender
	item   int
	gen    uint32
	bytes  int32 // that were sent: with none, copied means nothing
	copied bool
	silent bool // whether it was copied was not said
}

// merged reports whether a notification that says copied says so only because the
// send never had a packet of its own. The kernel puts what fits into the last packet
// of the send before, and chains the notifications (io_link_skb, io_uring/notif.c,
// Linux 6.10); it notes with the first of a chain what became of that packet, and
// takes the others, of which it heard nothing, for copied (io_notif_tw_complete). A
// chain comes at once: prev is the notification that came right before. A packet of its
// own that was copied right behind one that was not would look the same, so that such
// a notification is taken to say nothing.
func (l *landing) merged(prev *landing) bool {
	return l.copied && l.bytes < mostMerged && prev.s == l.s && prev.bytes > 0 && !prev.copied
}

// mostMerged is more than fits into one packet before segmentation
// (GSO_LEGACY_MAX_SIZE, linux/netdevice.h).
const mostMerged = 64 << 10
