package transmit

import "errors"

// RingOptions say how large a [Ring] is. The zero value is a good one.
type RingOptions struct {
	// Requests is how many requests one system call hands over, at most 4096; 128 if
	// 0. More wait for the next call.
	Requests int
	// InFlight bounds the sends whose memory the kernel holds, at most 61440; 16384
	// if 0. What is sent beyond is copied.
	InFlight int
	// Buffers is how many pieces of pools, of 4 MiB or one buffer, can be registered
	// at a time, at most 16384; 1024 if 0.
	Buffers int
}

// The bounds of RingOptions: IORING_MAX_ENTRIES and IORING_MAX_CQ_ENTRIES of
// io_uring/io_uring.c less the requests of one call, and IORING_MAX_REG_BUFFERS of
// io_uring/rsrc.c.
const (
	mostRequests    = 4096
	mostInFlight    = 1<<16 - mostRequests
	mostRingBuffers = 1 << 14
)

func (o *RingOptions) fill() {
	bound := func(v *int, ordinary, most int) {
		if *v <= 0 {
			*v = ordinary
		}
		*v = min(*v, most)
	}
	bound(&o.Requests, 128, mostRequests)
	bound(&o.InFlight, 16384, mostInFlight)
	bound(&o.Buffers, 1024, mostRingBuffers)
}

// RingStats count what a [Ring] did.
type RingStats struct {
	Calls     int64 // of io_uring_enter(2) that handed over requests
	Requests  int64 // that were answered
	Sends     int64 // of these, with memory that the kernel kept
	Notified  int64 // of Sends, the kernel let go of the memory
	Copied    int64 // of Notified, the kernel said that it copied
	Merged    int64 // of Notified, it said nothing: they left in the last packet of the send before
	Refused   int64 // requests that were not made, as the ring was full or unusable
	Overflows int64 // looks that found answers for which the kernel had no place

	InFlight        int   // sends whose memory the kernel holds
	Buffers         int   // pieces of memory that are registered
	RegisteredBytes int64 // in them
}

// ErrRingClosed says that a [Ring] takes no more requests.
var ErrRingClosed = errors.New("the ring is closed")
