package zctest

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rawSends sends with MSG_ZEROCOPY by system calls of its own, and reads notifications
// until all are there if told to.
func rawSends(t testing.TB, c *net.TCPConn, option, wait bool) func() {
	const sends = 3
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10_000) // which a new socket takes at once
	control := func(do func(fd int)) {
		if err := raw.Control(func(fd uintptr) { do(int(fd)) }); err != nil {
			t.Error(err)
		}
	}
	return func() {
		control(func(fd int) {
			if option {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
					t.Error(err)
				}
			}
			for range sends {
				if n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_ZEROCOPY); err != nil || n != len(p) {
					t.Errorf("sent %d bytes: %v", n, err)
				}
			}
		})
		if !wait {
			return
		}
		deadline := time.Now().Add(patience)
		oob := make([]byte, 128)
		for done := false; !done; {
			control(func(fd int) {
				_, oobn, _, _, err := unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE)
				if err == nil && oobn > 0 { // ee_data is the last of the range
					done = done || oob[16+12] == sends-1
				}
			})
			if time.Now().After(deadline) {
				t.Error("no notifications")
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestNotifications has AssertNoCopy judge what the kernel says of sends.
func TestNotifications(t *testing.T) {
	for _, c := range []struct {
		name         string
		path         func(testing.TB) *Path
		option, wait bool
		fails        bool
		want         string
	}{
		{"uncopied", Uncopied, true, true, false, ""},
		{"not waited for", Uncopied, true, false, true, "wait for them in it"},
		{"without SO_ZEROCOPY", Uncopied, false, false, true, "without SO_ZEROCOPY on the socket"},
		{"loopback", Copied, true, true, false, "to a destination on this machine it does"},
		{"loopback without SO_ZEROCOPY", Copied, false, false, true, "without SO_ZEROCOPY on the socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.path(t)
			var calls *Calls
			got := judged(t, func(v testing.TB) { calls = AssertNoCopy(v, p.Conn, rawSends(t, p.Conn, c.option, c.wait)) })
			if got.failed != c.fails || !strings.Contains(got.text.String(), c.want) {
				t.Errorf("failed %t, want %q; it said\n%s", got.failed, c.want, &got.text)
			}
			if !c.wait {
				return
			}
			var done int64
			for _, n := range calls.Completions {
				done += n.sends()
				if n.Copied == p.Uncopied {
					t.Errorf("a notification says copied %t", n.Copied)
				}
			}
			if done != 3 {
				t.Errorf("notifications of %d sends: %+v", done, calls.Completions)
			}
		})
	}
}

// TestCopiedNotification is what no path of this machine makes at will: the kernel
// accepted a send, and copied it.
func TestCopiedNotification(t *testing.T) {
	s := FD{Num: 3, Name: "socket:[1]"}
	sent := Call{Name: "sendmsg", Source: memory, Target: s, Asked: -1, Bytes: 10_000, ZeroCopy: true}
	calls := &Calls{
		List:        []Call{sent, sent, sent},
		Completions: []Completion{{Socket: s, First: 1<<32 - 1, Last: 0}, {Socket: s, First: 1, Last: 1, Copied: true}},
	}
	v := look(calls, s.Name)
	if got := v.noCopyCalls(); got != "" {
		t.Errorf("the calls: %s", got)
	}
	if got, want := v.noCopyDone(), "the kernel copied: 1 of 3 notifications"; !strings.Contains(got, want) {
		t.Errorf("it said %q, want %q", got, want)
	}
	calls.Completions[1].Copied = false
	if got := look(calls, s.Name).noCopyDone(); got != "" {
		t.Errorf("of uncopied sends it said %q", got)
	}
	calls.Lost = 1
	if v := look(calls, s.Name); v.noCopyCalls() == "" || v.sendfileOnly() == "" {
		t.Error("calls were lost, and nothing is said of it")
	}
}
