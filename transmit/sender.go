package transmit

import (
	"errors"
	"log/slog"
	"time"
)

// Options change how a [Sender] works. The zero value is a good one.
type Options struct {
	// Backend is used wherever it applies to the source, whatever is known against
	// it, and as long as the kernel takes it. "" chooses for each transfer, unless
	// the environment asks for a backend (see [Environment]).
	Backend Backend

	// Ring makes memory that is lent go through an io_uring that many connections
	// share, where the backend does not say otherwise. Where the ring is refused
	// MSG_ZEROCOPY goes on. What is smaller than Threshold and next to what is lent
	// is lent with it.
	Ring *Ring

	// Threshold is the size in bytes from which memory is lent to the kernel
	// instead of copied; 0 is [DefaultThreshold], or 1 with the backends
	// msg_zerocopy and io_uring_send_zc. Parts of a vectored send count one by one.
	Threshold int

	// SegmentBytes makes a UDP send longer than it leave as datagrams of that many
	// bytes (UDP_SEGMENT, Linux 4.18), up to 64 of them and 65507 bytes in all. 0
	// sends every buffer as one datagram.
	SegmentBytes int

	// NoReader says that nobody reads from the connection by package net while
	// memory is lent. A Go program that does sees its reads fail with "not
	// pollable" when a notification of the kernel comes while the send buffer is
	// full, so the Sender uses two thirds of the buffer, and copies some now and
	// then to make it grow. Without a reader it uses all and copies nothing.
	NoReader bool

	// OnDowngrade is told the first time a connection goes on by a lesser way for
	// a reason. It is called by the goroutine that sends, at the end of the transfer,
	// and must not send. Without it Logger is told, at level Debug where the reason is in the nature of the
	// path, else Info.
	OnDowngrade func(*Downgrade)
	Logger      *slog.Logger // nil: slog.Default()

	// OnErrqueue is given the control messages of entries in the connection's
	// error queue that are no completions: ICMP errors and timestamps that the
	// application asked for. They are lost without it. It may be called by any
	// goroutine, and must neither keep the slice nor use the Sender.
	OnErrqueue func(control []byte)

	// DrainTimeout bounds how long Close waits for the kernel; 0 is 10 seconds.
	DrainTimeout time.Duration
}

// DefaultThreshold is the size in bytes from which memory is lent instead of
// copied where nothing was measured: the hot crossover of [DefaultCrossover].
const DefaultThreshold = 32 << 10

const defaultDrainTimeout = 10 * time.Second

// Options returns the options of a Sender that follows the plan.
func (p *Plan) Options() Options {
	if (p.Above == MsgZerocopy || p.Above == IoUringSendZC) && p.Below != p.Above && p.ThresholdBytes < Never {
		return Options{Threshold: int(max(p.ThresholdBytes, 1))}
	}
	return Options{Backend: p.Backend}
}

// choose takes the backend from the environment, if nothing else was asked for.
func (o *Options) choose() {
	if o.Backend != "" {
		return
	}
	b, err := Environment()
	if err != nil {
		// A slip of the pen in a service's environment must not keep it from sending.
		tellDowngrade(o.OnDowngrade, o.Logger, &Downgrade{Reason: "the environment asks for what is no backend", Err: err}, false)
	}
	o.Backend = b
}

// Stats counts what a Sender did since it was made.
type Stats struct {
	Transfers  int64 // sends of the application
	Bytes      int64
	PlainBytes int64 // copied by the calls themselves

	ZerocopySends int64 // sends with MSG_ZEROCOPY or SEND_ZC that the kernel took
	Notified      int64 // of these, the kernel let go of the memory
	CopiedSends   int64 // of these, the kernel said it copied; as it merges notifications, not exact
	NoBufferSpace int64 // ENOBUFS, ENOMEM: locked memory or option memory ran out

	Outstanding      int   // transfers whose memory the kernel holds
	OutstandingBytes int64 // of these
	ForeignEntries   int64 // entries of the error queue that were none of ours
	BackedOff        bool  // nothing is lent for now, as the kernel copied nearly everything
}

// Abandoned is what a connection was closed with.
type Abandoned struct {
	Transfers int   // whose memory the kernel still held
	Bytes     int64 // of these
}

// Errors of a Sender.
var (
	errClosed   = errors.New("the sender is closed")
	errNotAConn = errors.New("not a socket, pipe or file that can be sent to")
)
