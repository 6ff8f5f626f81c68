package ebpf

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A tracer that need not be exact looks at everything while that costs little.
// Where payload is sent more often, it looks in windows, and is not there
// between them: hooks that are not attached cost nothing.
const (
	// mayTake is the part of one processor's time that looking may take.
	mayTake = 0.01
	// each is about how long it takes to look at one packet or send, with all
	// that belongs to it.
	each = 500 * time.Nanosecond
	// mayChange is the part that opening and closing windows may take. It costs
	// those who send about as long as it takes.
	mayChange = 0.005
	// shortest and longest are the time from one window to the next. What goes on
	// for longer is always met. In between it is as long as mayChange makes it: on
	// virtual machines each hook takes up to a millisecond, since processors have
	// to be interrupted for it.
	shortest = 80 * time.Millisecond
	longest  = 250 * time.Millisecond
	// narrowest is the length of the shortest window. The longest is half of the
	// period.
	narrowest = 2 * time.Millisecond
	// linger is how long packets that have left may take to arrive on this
	// machine, before a window ends for them, too.
	linger = time.Millisecond
	// calm is how many windows it takes to believe that there is little to see.
	calm = 10
)

// watch decides when an attachment looks.
type watch struct {
	a    *attachment
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex // of what follows, and of the maps while windows change
	may    float64    // take so much of a processor
	number uint32
	open   bool
	since  time.Time // of sampling, or zero
	opened time.Time
	change time.Duration // how long it took to open and close the last window
	left   uint64        // how many packets of which more may become have left
	arrive bool          // some left in the last window: hooks look at what becomes of them
	past   sampling      // without what began at since and opened
	kept   []observation
	err    error
}

func startWatch(a *attachment) *watch {
	w := &watch{a: a, stop: make(chan struct{}), done: make(chan struct{}), open: true, opened: time.Now(), may: mayTake}
	go w.run()
	return w
}

// end ends the watch, and leaves hooks as they are.
func (w *watch) end() {
	close(w.stop)
	<-w.done
}

func (w *watch) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-w.stop:
		return false
	case <-t.C:
		return true
	}
}

func (w *watch) run() {
	defer close(w.done)
	for {
		part, err := w.whole()
		if err == nil && part < 1 {
			err = w.windows(part)
		}
		if err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			return
		}
		select {
		case <-w.stop:
			return
		default:
		}
	}
}

// part is how much of the time may be looked at where so much is sent, at most 1.
func (w *watch) part(events uint64, in time.Duration) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	cost := float64(events) * float64(each) / float64(in)
	return min(1, w.may/max(cost, 1e-9))
}

// whole looks at everything until that is too much, and returns how much is not;
// 1 at the end.
func (w *watch) whole() (float64, error) {
	const tick = shortest / 2
	before, err := w.a.busy()
	if err != nil {
		return 1, err
	}
	for start := time.Now(); w.sleep(tick); start = time.Now() {
		now, err := w.a.busy()
		if err != nil {
			return 1, err
		}
		if p := w.part(now-before, time.Since(start)); p < 1 {
			return p, nil
		}
		before = now
	}
	return 1, nil
}

// windows looks in windows until there is little to see.
func (w *watch) windows(p float64) error {
	if err := w.begin(); err != nil {
		return err
	}
	for quiet := 0; quiet < calm; {
		period := min(max(time.Duration(float64(w.change)/mayChange), shortest), longest)
		length := min(max(time.Duration(p*float64(period)), narrowest), period/2)
		// The place of the window in its period is random: what happens
		// regularly must not be met always, or never.
		gap := period - length
		before := time.Duration(rand.Int64N(int64(gap)))
		if !w.sleep(before) {
			return nil
		}
		seen, took, err := w.look(length)
		if err != nil {
			return err
		}
		p = w.part(seen, took)
		if quiet++; p < 1 {
			quiet = 0
		}
		if !w.sleep(gap - before) {
			return nil
		}
	}
	return w.resume()
}

// begin ends the time in which everything was looked at.
func (w *watch) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// What sends later than this is seen, or notes how much it has sent itself.
	if err := w.visit("known_files", nil); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	w.since = time.Now()
	w.past.windows++
	return nil
}

// resume looks at everything again.
func (w *watch) resume() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.past.of += time.Since(w.since)
	w.since = time.Time{}
	return w.show(w.number + 1 + (w.number+1)%2)
}

// look looks for a while, and returns how often there was something to see, and
// how long it was.
func (w *watch) look(length time.Duration) (uint64, time.Duration, error) {
	before, err := w.a.busy()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	w.mu.Lock()
	err = w.show(w.number + 1 + w.number%2)
	w.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	w.sleep(length)
	after, err := w.a.busy()
	if err != nil {
		return 0, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	took := time.Since(w.opened)
	w.past.windows++
	opening := w.opened.Sub(start)
	start = time.Now()
	err = w.close()
	w.change = opening + time.Since(start) - linger
	return after - before, took, err
}

// show opens a window.
func (w *watch) show(number uint32) error {
	if err := w.set(number); err != nil {
		return err
	}
	if w.arrive || number%2 == 0 {
		if err := w.a.attach(arriving); err != nil {
			return err
		}
	}
	if err := w.a.attach(leaving); err != nil {
		return err
	}
	w.open = true
	w.opened = time.Now()
	return nil
}

func (w *watch) set(number uint32) error {
	if err := w.a.window.Set(number); err != nil {
		return fmt.Errorf("number of the window: %w", err)
	}
	w.number = number
	return nil
}

// close closes it. Packets that are under way then are not known to arrive, and
// the time until the next has an odd number of its own.
func (w *watch) close() error {
	if w.number%2 == 1 {
		w.past.watched += time.Since(w.opened)
	}
	w.open = false
	err := errors.Join(w.a.detach(leaving), w.set(w.number+1+w.number%2))
	time.Sleep(linger)
	if err := errors.Join(err, w.a.detach(arriving)); err != nil {
		return err
	}
	left, err := w.a.left()
	if err != nil {
		return err
	}
	w.arrive = left != w.left
	w.left = left
	if !w.arrive {
		return nil
	}
	devices, err := w.a.devices()
	if err != nil {
		return err
	}
	all := observations{counts: w.kept}
	err = w.read("take_flights", w.a.objects.Flights, func(r io.Reader) error { return takeFlights(r, devices, &all) })
	w.kept = merge(all.counts)
	return err
}

// merge adds up packets that differ in nothing.
func merge(all []observation) []observation {
	at := make(map[observation]int, len(all))
	out := all[:0]
	for _, o := range all {
		key := o
		key.bytes, key.packets, key.lent = 0, 0, 0
		if i, ok := at[key]; ok {
			out[i].bytes += o.bytes
			out[i].packets += o.packets
			out[i].lent += o.lent
			continue
		}
		at[key] = len(out)
		out = append(out, o)
	}
	return out
}

// visit runs an iterator to its end.
func (w *watch) visit(program string, over *ebpf.Map) error {
	return w.read(program, over, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// read runs an iterator, of which do is to read all.
func (w *watch) read(program string, over *ebpf.Map, do func(io.Reader) error) error {
	l, err := link.AttachIter(link.IterOptions{Program: w.a.loaded.Programs[program], Map: over})
	if err != nil {
		return fmt.Errorf("%s: %w", program, translate(err))
	}
	defer l.Close()
	r, err := l.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", program, translate(err))
	}
	defer r.Close()
	if err := do(r); err != nil {
		return fmt.Errorf("%s: %w", program, translate(err))
	}
	return nil
}

func (w *watch) drain() (observations, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return observations{}, w.err
	}
	if w.number > 0 || !w.open {
		err := errors.Join(w.visit("known_files", nil), w.visit("settle_sockets", w.a.objects.Sockets), w.visit("settle_bases", w.a.objects.Bases))
		if err != nil {
			return observations{}, err
		}
	}
	all, err := w.a.read()
	all.counts = append(all.counts, w.kept...)
	all.sampled = w.past
	if !w.since.IsZero() {
		all.sampled.of += time.Since(w.since)
	}
	if w.open && w.number%2 == 1 {
		all.sampled.watched += time.Since(w.opened)
	}
	return all, err
}
