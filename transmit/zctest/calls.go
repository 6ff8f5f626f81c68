package zctest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// An FD is what a descriptor referred to when a call was made.
type FD struct {
	Num int // -1 if the call has no such end: that is memory of the process

	// Name is what /proc/PID/fd calls it: "/srv/big.bin", "socket:[4711]",
	// "pipe:[42]". "" if it was closed.
	Name string
}

var memory = FD{Num: -1}

// socket says that the descriptor is a socket, of whatever family.
func (f FD) socket() bool { return strings.HasPrefix(f.Name, "socket:") }
func (f FD) pipe() bool   { return strings.HasPrefix(f.Name, "pipe:") }

// A Call is a system call that moves payload, as it was made.
type Call struct {
	// Name is the name of the call, in the words of its manual page: "sendfile",
	// "pread64". A request that io_uring_enter submitted follows that call, by the
	// kernel's name for it: "io_uring SEND_ZC", or "io_uring ?" for requests that
	// could not be seen.
	Name string

	// Source and Target are the descriptors that the call took the bytes from and
	// gave them to; of a write the source is memory, of a read the target.
	Source, Target FD

	// Asked is how many bytes the call was made for, -1 where the call itself does
	// not say (writev, sendmsg and the like).
	Asked int64

	// Bytes is how many it moved; of io_uring_enter, how many requests it took; of
	// a request, whose result is not seen, what it asked for.
	Bytes int64

	// Began is how many calls of the list had returned when this one was made: it
	// ran beside those that stand from there to it.
	Began int

	// Errno is why it moved none, 0 if it did not fail.
	Errno syscall.Errno

	// ZeroCopy is set for a send with MSG_ZEROCOPY, for requests that do the same,
	// and for setsockopt with SO_ZEROCOPY.
	ZeroCopy bool
}

// uringPrefix begins the names of requests to an io_uring, "io_uring SEND_ZC", in the
// kernel's words for the operation.
const uringPrefix = "io_uring "

// uringHidden is the name for requests that are made, and that nothing is known of.
const uringHidden = uringPrefix + "?"

// String is the call about as strace would print it.
func (c Call) String() string {
	var b strings.Builder
	b.WriteString(c.Name)
	b.WriteByte('(')
	sep := ""
	add := func(s string) { b.WriteString(sep + s); sep = ", " }
	if c.Source != memory {
		add("from " + c.Source.Name)
	}
	if c.Target != memory {
		add("to " + c.Target.Name)
	}
	if c.Asked >= 0 {
		add(fmt.Sprint(c.Asked))
	}
	if c.ZeroCopy {
		switch {
		case c.Name == "setsockopt":
			add("SO_ZEROCOPY")
		case !strings.HasPrefix(c.Name, uringPrefix):
			add("MSG_ZEROCOPY")
		}
	}
	b.WriteString(") = ")
	if c.Errno != 0 {
		return b.String() + c.Errno.Error()
	}
	return b.String() + fmt.Sprint(c.Bytes)
}

// A Completion is a notification of the kernel that sends with MSG_ZEROCOPY are
// done, as the process read it from the error queue of a socket.
type Completion struct {
	Socket FD

	// First and Last are the first and the last send that it is about, by their
	// number in the life of the socket, from 0 on, modulo 2^32.
	First, Last uint32

	// Copied: the kernel copied some of the bytes after all.
	Copied bool
}

// sends is how many sends the notification is about.
func (c Completion) sends() int64 { return int64(c.Last-c.First) + 1 }

// Calls are the system calls that move payload and were made while a function ran, in
// the order in which they returned. Calls on the runtime's own eventfds are left out, and
// so are those that had nothing to move and slept when the recording ended.
type Calls struct {
	List        []Call
	Completions []Completion

	// Lost is how many calls more there were; 131072 are kept.
	Lost int
}

// On returns the calls, and completions, that have an end at a connection, file or
// pipe. It compares what the descriptor of f refers to, so that duplicates of the
// descriptor count, and another end of the same pipe does.
func (c *Calls) On(f syscall.Conn) (*Calls, error) {
	id, err := identify(f)
	if err != nil {
		return nil, err
	}
	return c.on(id), nil
}

func (c *Calls) on(name string) *Calls {
	out := &Calls{Lost: c.Lost}
	for _, call := range c.List {
		if call.Source.Name == name || call.Target.Name == name {
			out.List = append(out.List, call)
		}
	}
	for _, done := range c.Completions {
		if done.Socket.Name == name {
			out.Completions = append(out.Completions, done)
		}
	}
	return out
}

// with returns the calls of on and those with an end of that name, in order.
func (c *Calls) with(on *Calls, name string) *Calls {
	out := &Calls{Lost: c.Lost}
	for _, call := range c.List {
		if len(on.List) > 0 && call == on.List[0] {
			on = &Calls{List: on.List[1:]}
		} else if call.Source.Name != name && call.Target.Name != name {
			continue
		}
		out.List = append(out.List, call)
	}
	return out
}

// Names are the calls that moved bytes or failed for a reason other than that they
// would have had to wait, by their name, each once, in the order of their first.
func (c *Calls) Names() []string {
	var names []string
	for _, call := range c.List {
		if call.Bytes > 0 || call.Errno != 0 && call.Errno != syscall.EAGAIN && call.Errno != syscall.EINTR {
			if !slices.Contains(names, call.Name) {
				names = append(names, call.Name)
			}
		}
	}
	return names
}

// String lists the calls, with those alike that follow each other in one line.
func (c *Calls) String() string {
	var b strings.Builder
	for i := 0; i < len(c.List); {
		period, times := c.repeats(i)
		for _, call := range c.List[i : i+period] {
			fmt.Fprintf(&b, "\t%s\n", call)
		}
		if times > 1 {
			fmt.Fprintf(&b, "\t… and so on, %d times in all\n", times)
		}
		i += period * times
	}
	if c.Lost > 0 {
		fmt.Fprintf(&b, "\t… and %d calls more\n", c.Lost)
	}
	if b.Len() == 0 {
		return "\tno calls\n"
	}
	return b.String()
}

// longestPeriod is how many calls in a row String looks at for a loop of them: read,
// write and a wait of each are four.
const longestPeriod = 4

// repeats finds a loop that begins at call i: how many calls it is long, and how
// often it is run.
func (c *Calls) repeats(i int) (period, times int) {
	for period = 1; period <= longestPeriod; period++ {
		times = 1
		for next := i + period; next+period <= len(c.List) && c.alike(i, next, period); next += period {
			times++
		}
		if times > 1 {
			return period, times
		}
	}
	return 1, 1
}

func (c *Calls) alike(i, j, n int) bool {
	for k := range n {
		a, b := c.List[i+k], c.List[j+k]
		ended := (a.Bytes == 0) != (b.Bytes == 0)
		a.Bytes, a.Asked, a.Began, b.Bytes, b.Asked, b.Began = 0, 0, 0, 0, 0, 0
		if a != b || ended {
			return false
		}
	}
	return true
}
