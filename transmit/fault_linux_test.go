package transmit

import (
	"fmt"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A fault is what the kernel answers, instead of doing its work, to one call or to
// all from one on.
type fault struct {
	call  string        // field of calls
	err   syscall.Errno // 0: see short
	short int           // with it, do at most so many bytes; 0 is the answer "none"
	first int           // the first call that it hits, from 0
	every bool          // and all that follow
}

func (f fault) String() string {
	s := fmt.Sprintf("%s call %d", f.call, f.first)
	if f.every {
		s += " and on"
	}
	if f.err != 0 {
		return s + ": " + sys.ErrnoName(f.err)
	}
	return fmt.Sprintf("%s: at most %d bytes", s, f.short)
}

// bare says which calls give EINTR and EAGAIN without a name.
var bare = map[string]bool{"Read": true, "Write": true, "Pread": true, "Pwrite": true, "Splice": true, "Sendfile": true, "CopyFileRange": true}

// faulty returns the kernel's calls with a fault, and counts them.
func faulty(f fault, count *atomic.Int64) *calls {
	k := kernel
	v := reflect.ValueOf(&k).Elem().FieldByName(f.call)
	real := reflect.ValueOf(v.Interface())
	v.Set(reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
		n := int(count.Add(1)) - 1
		if n < f.first || n > f.first && !f.every {
			return real.Call(args)
		}
		if f.err == 0 && f.short > 0 {
			return real.Call(shorten(f.call, args, f.short))
		}
		out := make([]reflect.Value, v.Type().NumOut())
		for i := range out {
			out[i] = reflect.Zero(v.Type().Out(i))
		}
		if f.err != 0 {
			err := error(f.err)
			if f.err != syscall.EINTR || !bare[f.call] {
				err = sys.Wrap(f.call, err)
			}
			out[len(out)-1] = reflect.ValueOf(&err).Elem()
		}
		return out
	}))
	return &k
}

// shorten makes the call ask for n bytes at most, as the kernel may do any time.
func shorten(call string, args []reflect.Value, n int) []reflect.Value {
	args = append([]reflect.Value(nil), args...)
	switch call {
	case "Read", "Write", "Pread", "Pwrite":
		args[1] = args[1].Slice(0, min(n, args[1].Len()))
	case "Splice", "CopyFileRange":
		args[4] = reflect.ValueOf(min(n, int(args[4].Int())))
	case "Sendfile":
		args[3] = reflect.ValueOf(min(n, int(args[3].Int())))
	}
	return args
}

// callsMade runs fn with each field of calls counted, and returns how often each was
// called.
func callsMade(fn func(*calls)) map[string]int {
	k := kernel
	v := reflect.ValueOf(&k).Elem()
	counts := map[string]*atomic.Int64{}
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Type.Kind() != reflect.Func {
			continue
		}
		field, n := v.FieldByIndex(f.Index), new(atomic.Int64)
		counts[f.Name] = n
		real := reflect.ValueOf(field.Interface())
		field.Set(reflect.MakeFunc(field.Type(), func(args []reflect.Value) []reflect.Value {
			n.Add(1)
			return real.Call(args)
		}))
	}
	fn(&k)
	made := map[string]int{}
	for name, n := range counts {
		if n.Load() > 0 {
			made[name] = int(n.Load())
		}
	}
	return made
}

var faultErrnos = []syscall.Errno{
	syscall.ENOSYS, syscall.EPERM, syscall.EINVAL, syscall.EIO, syscall.EINTR, syscall.ENOSPC, syscall.EMFILE, syscall.EXDEV,
}

// faultsOf lists what may go wrong in a run that makes these calls: each with each
// errno, at its first, its second and its last call, once and for ever; and short
// counts of those that move bytes.
func faultsOf(made map[string]int) []fault {
	var all []fault
	for call, n := range made {
		if call == "Close" {
			continue // a close that does not close is a leak by itself
		}
		firsts := map[int]bool{0: true, min(1, n-1): true, n - 1: true}
		for first := range firsts {
			for _, e := range faultErrnos {
				all = append(all, fault{call: call, err: e, first: first})
				if e != syscall.EINTR {
					all = append(all, fault{call: call, err: e, first: first, every: true})
				}
			}
			if bare[call] {
				all = append(all, fault{call: call, short: 1, first: first}, fault{call: call, short: 4095, first: first},
					fault{call: call, short: 40001, first: first, every: true})
			}
		}
	}
	return all
}

// openFDs returns how many descriptors the process has.
func openFDs(t testing.TB) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

// drop closes the pipes of a pool and reports those that hold bytes.
func (pp *pipePool) drop(t testing.TB) {
	t.Helper()
	pp.mu.Lock()
	defer pp.mu.Unlock()
	if pp.timer != nil {
		pp.timer.Stop()
	}
	if p := pp.last.Swap(nil); p != nil {
		pp.free = append(pp.free, p)
	}
	for _, p := range pp.free {
		if n, err := unix.IoctlGetInt(p.r, unix.TIOCINQ); err != nil || n != 0 {
			t.Errorf("a pipe in the pool holds %d bytes, %v", n, err)
		}
		_ = unix.Close(p.r)
		_ = unix.Close(p.w)
	}
	pp.free = nil
}
