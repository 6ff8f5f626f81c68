package transmit

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestRingBatch sends on many connections: the same to all, twice to some, a lot to
// one that does not read, and to one that is closed.
func TestRingBatch(t *testing.T) {
	const conns = 150
	for _, threshold := range []int{0, 4096} {
		r, _ := faultyRing(t, RingOptions{}, nil)
		b := r.NewBatch()
		var senders [conns]*Sender
		var got [conns]<-chan []byte
		var want [conns][]byte
		var stuck *net.TCPConn
		for i := range senders {
			out, in := tcpPair(t)
			if i == 3 {
				stuck = in
			} else {
				got[i] = received(in)
			}
			o := Options{Ring: r, Threshold: threshold, OnDowngrade: func(*Downgrade) {}}
			if i%10 == 9 {
				o.Ring = nil // goes by itself
			}
			var err error
			if senders[i], err = NewSender(out, o); err != nil {
				t.Fatal(err)
			}
			if i%10 != 8 {
				senders[i].zc = lending{numbered: true} // not to be noticed: the peer is on this machine
			}
			if i == 5 {
				_ = out.Close()
			}
		}
		pool, err := NewPool(PoolOptions{BufferBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		message, more, much := pattern(5000), pattern(40000), pattern(16<<20)
		add := func(i int, p []byte) {
			b.Send(senders[i], p)
			if i != 5 {
				want[i] = append(want[i], p...)
			}
		}
		for round := range 3 {
			for i := range senders {
				add(i, message)
				if i == 3 && round == 1 {
					add(i, much)
				}
				if i%7 == 0 {
					add(i, more)
					add(i, nil)
					buffer, err := pool.Get(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer buffer.Release()
					n := copy(buffer.Bytes(), message)
					buffer.SetLen(n)
					b.SendBuffer(senders[i], buffer)
					want[i] = append(want[i], message...)
				}
			}
			if round == 2 {
				got[3] = received(stuck)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if round == 1 {
				go func() { // ends it when there is nothing left to do but what is stuck
					defer cancel()
					for ctx.Err() == nil && !sentAllBut(senders[:], want[:], 3, len(much)) {
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
			err := b.Flush(ctx)
			cancel()
			if !errors.Is(err, net.ErrClosed) && (round != 1 || !errors.Is(err, context.Canceled)) {
				t.Errorf("%v", err)
			}
			for k := range b.Len() {
				c, err := b.Result(k)
				switch it := b.items[k]; {
				case it.s == senders[5]:
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("send %d: %v", k, err)
					}
				case it.s == senders[3] && round == 1 && len(it.p) == len(much):
					if !errors.Is(err, context.Canceled) || c.Bytes() == 0 || c.Bytes() >= int64(len(much)) {
						t.Errorf("send %d: %d bytes, %v", k, c.Bytes(), err)
					}
					want[3] = want[3][:len(want[3])-len(much)+int(c.Bytes())]
				case err != nil:
					t.Errorf("send %d: %v", k, err)
				}
			}
		}
		if st := r.Stats(); st.Calls > st.Requests/2 {
			t.Errorf("%d requests by %d calls", st.Requests, st.Calls)
		} else {
			t.Logf("%+v", st)
		}
		for i, s := range senders {
			if _, err := s.Close(t.Context()); err != nil && i != 5 {
				t.Errorf("connection %d: %v", i, err)
			}
			if i != 5 {
				if p := <-got[i]; !bytes.Equal(p, want[i]) {
					t.Errorf("connection %d: %d bytes arrived that are not the %d sent", i, len(p), len(want[i]))
				}
			}
		}
	}
}

// sentAllBut reports whether all that is wanted was sent, other than to the closed
// connection, and but for a part of the last bytes of one.
func sentAllBut(senders []*Sender, want [][]byte, one, last int) bool {
	for i, s := range senders {
		switch sent := int(s.sent.Load()); {
		case i == one && sent <= len(want[i])-last, i != one && i != 5 && sent < len(want[i]):
			return false
		}
	}
	return true
}
