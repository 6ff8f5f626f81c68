package transfer

import (
	"context"
	"errors"

	"github.com/zcprobe/zcprobe/transmit"
)

// file sends a range of a regular file on a stream.
func (x *sending) file(ctx context.Context) error {
	s := &x.o.Source
	o := transmit.FileOptions{Backend: x.plan.Backend}
	if !x.forced() && x.plan.Backend == transmit.Sendfile {
		o.Backend = "" // the rules of the sender look at the file as well
	}
	if x.o.StepBytes > 0 {
		// What a mapping costs is to be paid once, as without the steps.
		maps := transmit.NewMappings(transmit.MappingsOptions{})
		defer maps.Close()
		o.Mappings = maps
	}
	for at := s.Offset; ; {
		left := int64(-1) // a file that is made as it is read ends where it ends
		if s.Length >= 0 {
			left = s.Length - (at - s.Offset)
		}
		if left == 0 {
			return nil
		}
		want := left
		if left > 0 {
			want = x.step(left)
		}
		before := x.sender.Stats().PlainBytes
		c, err := x.sender.SendFile(ctx, s.File, at, want, o)
		x.fileWent(c, x.sender.Stats().PlainBytes-before)
		if t, ok := errors.AsType[*transmit.TruncatedError](err); ok {
			return fileError(s.Name, &transmit.TruncatedError{Sent: x.r.SentBytes, Want: s.Length, ZeroBytes: t.ZeroBytes})
		}
		if err != nil || left < 0 {
			return err
		}
		at += c.Bytes()
	}
}

// fileWent takes in a piece of a file. The piece has one name of a backend, and
// where some of it was copied that went another way.
func (x *sending) fileWent(c transmit.Completion, copied int64) {
	x.keep(c)
	n := c.Bytes()
	b := c.Backend()
	if !b.Copies() && copied > 0 && copied <= n {
		x.ways[transmit.ReadWrite] += copied
		x.ways[b] -= copied
	}
	x.went(b, n)
}

// keep remembers a transfer until it is known what completions said of it.
func (x *sending) keep(c transmit.Completion) {
	x.kept = append(x.kept, c)
	if len(x.kept) > mostSlots {
		x.collect(x.kept[0])
		x.kept = x.kept[1:]
	}
}

// collect takes in what completions said of a transfer that is released.
func (x *sending) collect(c transmit.Completion) {
	if !c.Released() {
		return
	}
	if res, err := c.Wait(context.Background()); err == nil { // waits for nothing
		x.last.add(res.Reported)
	}
}
