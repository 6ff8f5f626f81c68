package zctest

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
)

// Head is how many bytes of what is sent may be copied: the head of a response and
// the 512 bytes of its body that net/http writes first, a frame header, a first
// buffer. Assertions want more to be sent than that.
const Head = 4096

// AssertSendfile runs fn and fails the test unless what it sends on conn goes by
// sendfile(2) or splice(2), all but the [Head]. It returns all calls that were made.
// The test goes on after a failure, which lists the calls on the connection and says
// what is likely to be behind them. See [Record] for what is needed and what else it
// does to fn.
//
// What a splice takes from a pipe counts however it got there.
func AssertSendfile(t testing.TB, conn syscall.Conn, fn func()) *Calls {
	t.Helper()
	calls := Record(t, fn)
	v := view(t, calls, conn)
	if complaint := v.sendfileOnly(); complaint != "" {
		t.Errorf("%s\n%s%s", complaint, v.calls(), v.reason())
	}
	return calls
}

// AssertNoCopy runs fn and fails the test unless what it sends on conn goes without
// being copied, all but the [Head]: by sendfile, splice, or with MSG_ZEROCOPY on a
// socket that has SO_ZEROCOPY, and unless the notifications of MSG_ZEROCOPY that fn
// reads say that the kernel did not copy. It returns all calls that were made. fn must
// wait for the notifications: a send that is not known to be uncopied fails the test.
// Zero-copy sends from before fn must have been waited for, too: notifications of
// theirs that fn reads are counted.
//
// Over loopback the kernel copies what was sent with MSG_ZEROCOPY when it delivers it.
// There the calls are all that is judged, and the log of the test says so; on
// [Uncopied] it is both. Sendfile and splice tell nobody what the kernel did.
//
// Requests to an io_uring are judged by their operations (SEND_ZC). Their notifications
// are in memory of the process, where nobody sees them come: the log of the test says
// that they were not judged. Where the requests themselves cannot be seen the test is
// skipped, if nothing else fails it: before Linux 6.0, and with a ring that has a
// thread of the kernel (SQPOLL), registered files or a registered descriptor.
func AssertNoCopy(t testing.TB, conn syscall.Conn, fn func()) *Calls {
	t.Helper()
	calls := Record(t, fn)
	v := view(t, calls, conn)
	if complaint := v.noCopyCalls(); complaint != "" {
		t.Errorf("%s\n%s%s", complaint, v.calls(), v.reason())
		return calls
	}
	if v.hidden {
		t.Skip("needs requests of an io_uring that can be seen: Linux 6.0, and a ring without SQPOLL and registered files")
	}
	if v.requests > 0 {
		t.Logf("not checked: whether the kernel copied what %d zero-copy requests of an io_uring sent; their notifications are known to the sender alone", v.requests)
	}
	switch {
	case v.sends == 0:
	case !hasZeroCopy(t, conn):
		t.Errorf("%d sends have MSG_ZEROCOPY, which the kernel ignores, and copies, without SO_ZEROCOPY on the socket\n%s", v.sends, v.calls())
	case local(conn):
		t.Logf("not checked: whether the kernel copied what %d sends with MSG_ZEROCOPY sent; to a destination on this machine it does. "+
			"zctest.Uncopied has a path on which it does not", v.sends)
	default:
		if complaint := v.noCopyDone(); complaint != "" {
			t.Errorf("%s\n%s", complaint, v.calls())
		}
	}
	return calls
}

// A sight is what calls say of one connection.
type sight struct {
	id         string
	all, on    *Calls
	inKernel   int64  // bytes sent by sendfile and splice
	zeroCopied int64  // bytes sent with MSG_ZEROCOPY, or by requests that do the same
	sends      int64  // how many sends with MSG_ZEROCOPY those were
	requests   int64  // how many requests
	copied     int64  // bytes sent by other calls
	unmeasured string // a call that copied who knows how many bytes
	hidden     bool   // there were requests that could not be seen
}

func view(t testing.TB, calls *Calls, conn syscall.Conn) *sight {
	t.Helper()
	id, err := identify(conn)
	if err != nil {
		t.Fatalf("what the connection is: %v", err)
	}
	return look(calls, id)
}

func look(calls *Calls, id string) *sight {
	v := &sight{id: id, all: calls, on: calls.on(id)}
	for _, c := range calls.List {
		request := strings.HasPrefix(c.Name, uringPrefix)
		switch {
		case c.Name == uringHidden:
			v.hidden = true
		case c.Target.Name != id || c.Errno != 0 || c.Name == "setsockopt":
		case c.Name == "sendfile" || c.Name == "splice" || c.Name == "tee" || c.Name == uringPrefix+"SPLICE":
			v.inKernel += c.Bytes
		case c.ZeroCopy && request:
			v.zeroCopied += c.Bytes
			v.requests++
		case c.ZeroCopy:
			v.zeroCopied += c.Bytes
			v.sends++
		case request && c.Asked < 0:
			v.unmeasured = c.Name
		default:
			v.copied += c.Bytes
		}
	}
	return v
}

// sent says that something was sent in whatever way.
func (v *sight) sent() bool {
	return v.inKernel+v.zeroCopied+v.copied+v.requests > 0 || v.unmeasured != ""
}

// calls lists what was called on the connection, and around it if that says more.
func (v *sight) calls() string {
	shown := v.on
	switch from, ok := v.source(); {
	case len(v.on.List) == 0:
		shown = v.all
	case ok: // where the bytes came from is of interest
		shown = v.all.with(v.on, from.Source.Name)
	}
	const most = 40 // lines
	lines := strings.SplitAfter(shown.String(), "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("\t… and %d lines more\n", len(lines)-most))
	}
	return "calls:\n" + strings.Join(lines, "")
}

func (v *sight) lost() string {
	if v.all.Lost > 0 {
		return fmt.Sprintf("%d calls were not kept: make fn do less", v.all.Lost)
	}
	return ""
}

// sendfileOnly says why not all went by sendfile or splice, "" if it did.
func (v *sight) sendfileOnly() string {
	other := v.copied + v.zeroCopied
	switch {
	case v.lost() != "":
		return v.lost()
	case !v.sent():
		return v.nothing()
	case v.inKernel == 0:
		return fmt.Sprintf("no sendfile: %d bytes were sent from memory", other)
	case other > Head || v.unmeasured != "":
		return fmt.Sprintf("%d bytes were sent by sendfile or splice, and %d from memory, more than a head of %d", v.inKernel, other, Head)
	}
	return ""
}

// noCopyCalls says which calls copied, "" if none but of the head did.
func (v *sight) noCopyCalls() string {
	without := v.inKernel + v.zeroCopied
	switch {
	case v.lost() != "":
		return v.lost()
	case v.unmeasured != "":
		return "the connection was sent to by " + v.unmeasured + ", which copies"
	case v.copied > Head || without+v.requests == 0 && v.copied > 0:
		return fmt.Sprintf("%d bytes were sent by calls that copy, %d by others", v.copied, without)
	case !v.sent() && !v.hidden:
		return v.nothing()
	}
	return ""
}

func (v *sight) nothing() string {
	if v.hidden {
		return "nothing was sent on the connection, but perhaps by requests of an io_uring that could not be seen"
	}
	return "nothing was sent on the connection"
}

// noCopyDone says which sends are not known to be uncopied, "" if all are.
func (v *sight) noCopyDone() string {
	var done, copied int64
	for _, c := range v.on.Completions {
		done += c.sends()
		if c.Copied {
			copied += c.sends()
		}
	}
	switch {
	case copied > 0:
		return fmt.Sprintf("the kernel copied: %d of %d notifications of MSG_ZEROCOPY say so", copied, done)
	case done < v.sends:
		return fmt.Sprintf("of %d sends with MSG_ZEROCOPY the notifications of %d were read while the function ran: wait for them in it", v.sends, done)
	}
	return ""
}

// local says that a connection ends on this machine, as far as its addresses tell.
func local(conn syscall.Conn) bool {
	c, ok := conn.(interface {
		LocalAddr() net.Addr
		RemoteAddr() net.Addr
	})
	if !ok {
		return false
	}
	from, ok := c.LocalAddr().(*net.TCPAddr)
	to, ok2 := c.RemoteAddr().(*net.TCPAddr)
	return ok && ok2 && (to.IP.IsLoopback() || to.IP.Equal(from.IP))
}
