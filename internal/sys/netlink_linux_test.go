package sys

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// message builds a netlink message.
func message(typ, flags uint16, seq uint32, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	return append(b, make([]byte, align4(len(b))-len(b))...)
}

func number(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// feed returns the datagrams one by one, then EAGAIN as a socket would.
func feed(datagrams ...[]byte) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(datagrams) == 0 {
			return nil, syscall.EAGAIN
		}
		d := datagrams[0]
		datagrams = datagrams[1:]
		return d, nil
	}
}

func TestNetlinkReplies(t *testing.T) {
	const seq = 7
	part := message(16, unix.NLM_F_MULTI, seq, []byte("abcd"))
	part2 := message(16, unix.NLM_F_MULTI, seq, []byte("efghi"))
	done := message(unix.NLMSG_DONE, unix.NLM_F_MULTI, seq, number(0))
	ack := message(unix.NLMSG_ERROR, 0, seq, number(0))
	for _, c := range []struct {
		name  string
		in    [][]byte
		want  []string
		errIs error
		text  string // in the error
	}{
		{name: "dump", in: [][]byte{part, slices.Concat(part2, done)}, want: []string{"abcd", "efghi"}},
		{name: "one and its acknowledgement", in: [][]byte{part, ack}, want: []string{"abcd"}},
		{name: "left over of an earlier answer", in: [][]byte{message(16, 0, 6, []byte("old!")), message(unix.NLMSG_DONE, 0, 6, number(0)), part, done}, want: []string{"abcd"}},
		{name: "from a process", in: [][]byte{nil, part, done}, want: []string{"abcd"}},
		{name: "empty messages", in: [][]byte{message(unix.NLMSG_NOOP, 0, seq, nil), done}},
		{name: "done without a number", in: [][]byte{part, message(unix.NLMSG_DONE, 0, seq, nil)}, want: []string{"abcd"}},
		{name: "errno", in: [][]byte{message(unix.NLMSG_ERROR, 0, seq, number(-int32(unix.ENODEV)))}, errIs: unix.ENODEV},
		{name: "errno at the end of a dump", in: [][]byte{part, message(unix.NLMSG_DONE, 0, seq, number(-int32(unix.EMSGSIZE)))}, errIs: unix.EMSGSIZE, want: []string{"abcd"}},
		{name: "changed meanwhile", in: [][]byte{message(16, unix.NLM_F_DUMP_INTR, seq, []byte("abcd")), done}, errIs: ErrNetlinkInterrupted, want: []string{"abcd"}},
		{name: "changed at the end", in: [][]byte{part, message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, seq, number(0))}, errIs: ErrNetlinkInterrupted, want: []string{"abcd"}},
		{name: "no end", in: [][]byte{part}, errIs: unix.EAGAIN},
		{name: "overrun", in: [][]byte{message(unix.NLMSG_OVERRUN, 0, seq, nil)}, errIs: errNetlinkMalformed},
		{name: "cut header", in: [][]byte{part[:10]}, errIs: errNetlinkMalformed},
		{name: "cut body", in: [][]byte{part[:18]}, errIs: errNetlinkMalformed},
		{name: "length below the header", in: [][]byte{append(number(3), part[4:]...)}, errIs: errNetlinkMalformed},
		{name: "length over all", in: [][]byte{append(number(-1), part[4:]...)}, errIs: errNetlinkMalformed},
		{name: "error without a number", in: [][]byte{message(unix.NLMSG_ERROR, 0, seq, nil)}, errIs: errNetlinkMalformed},
		{name: "error that is none", in: [][]byte{message(unix.NLMSG_ERROR, 0, seq, number(5))}, text: "error number 5"},
		{name: "error out of range", in: [][]byte{message(unix.NLMSG_ERROR, 0, seq, number(-1<<31))}, text: "error number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := netlinkReply{seq: seq, dump: true}
			msgs, err := r.collect(feed(c.in...))
			failed := c.errIs != nil || c.text != ""
			if failed != (err != nil) || c.errIs != nil && !errors.Is(err, c.errIs) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v, want %v %s", err, c.errIs, c.text)
			}
			if err != nil && !errors.Is(err, ErrNetlinkInterrupted) {
				if msgs != nil {
					t.Errorf("messages %v with error %v", msgs, err)
				}
				return
			}
			var got []string
			for _, m := range msgs {
				got = append(got, string(m.Body))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNetlinkReplyIsBounded(t *testing.T) {
	part := message(16, unix.NLM_F_MULTI, 7, make([]byte, 60000))
	for name, d := range map[string][]byte{"messages": part, "nothing": nil, "others' answers": message(16, 0, 6, nil)} {
		r := netlinkReply{seq: 7, dump: true}
		n := 0
		_, err := r.collect(func() ([]byte, error) { n++; return d, nil })
		if err == nil || !strings.Contains(err.Error(), "over") {
			t.Errorf("%s without end: %v after %d datagrams", name, err, n)
		}
	}
}

func TestNetlinkShortBufferIsReadToTheEnd(t *testing.T) {
	done := message(unix.NLMSG_DONE, 0, 7, number(0))
	in := []any{errNetlinkShort, done, []byte("not read")}
	r := netlinkReply{seq: 7, dump: true}
	_, err := r.collect(func() ([]byte, error) {
		v := in[0]
		in = in[1:]
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.([]byte), nil
	})
	if !errors.Is(err, errNetlinkShort) || len(in) != 1 {
		t.Errorf("error %v, %d left, want the dump read up to its end", err, len(in))
	}
}

// TestNetlinkSmallBuffer makes the kernel's answers not fit at first.
func TestNetlinkSmallBuffer(t *testing.T) {
	n, err := OpenNetlink(NetlinkRoute)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	link := make([]byte, unix.SizeofIfInfomsg)
	want, err := n.Query(unix.RTM_GETLINK, NetlinkDump, link)
	if err != nil || len(want) == 0 {
		t.Fatalf("%d messages, %v", len(want), err)
	}
	n.buf = make([]byte, 256)
	got, err := n.Query(unix.RTM_GETLINK, NetlinkDump, link)
	if err != nil || len(got) != len(want) {
		t.Errorf("%d messages, %v, want %d", len(got), err, len(want))
	}
}

func TestNetlinkErrnos(t *testing.T) {
	n, err := OpenNetlink(NetlinkRoute)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	link := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(link[4:], 0x7fffffff)
	if msgs, err := n.Query(unix.RTM_GETLINK, 0, link); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device that does not exist: %v, %v", msgs, err)
	}
	binary.NativeEndian.PutUint32(link[4:], 1)
	msgs, err := n.Query(unix.RTM_GETLINK, 0, link)
	if err != nil || len(msgs) != 1 || msgs[0].Type != unix.RTM_NEWLINK {
		t.Errorf("lo: %v, %v", msgs, err)
	}
	if _, err := OpenNetlink(31); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("protocol 31: %v", err)
	}
}

func TestNetlinkAttrs(t *testing.T) {
	var b []byte
	b = AppendNetlinkAttr(b, 3, []byte("lo\x00"))
	b = AppendNetlinkAttr(b, 18|unix.NLA_F_NESTED, nil)
	b = AppendNetlinkAttr(b, 5, []byte{1, 2, 3, 4})
	type pair struct {
		typ   uint16
		value string
	}
	var got []pair
	collect := func(typ uint16, v []byte) error { got = append(got, pair{typ, string(v)}); return nil }
	if err := EachNetlinkAttr(b, collect); err != nil {
		t.Fatal(err)
	}
	if want := []pair{{3, "lo\x00"}, {18, ""}, {5, "\x01\x02\x03\x04"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The last one may lack its padding.
	if err := EachNetlinkAttr(b[:7], collect); err != nil {
		t.Errorf("without padding: %v", err)
	}
	for _, bad := range [][]byte{{1}, {3, 0, 1, 0}, {200, 0, 1, 0, 5}} {
		if err := EachNetlinkAttr(bad, collect); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	stop := errors.New("stop")
	if err := EachNetlinkAttr(b, func(uint16, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("fn's error: %v", err)
	}
}

func FuzzNetlinkReply(f *testing.F) {
	part := message(16, unix.NLM_F_MULTI, 7, AppendNetlinkAttr(nil, 3, []byte("eth0\x00")))
	f.Add(slices.Concat(part, message(unix.NLMSG_DONE, 0, 7, number(0))))
	f.Add(message(unix.NLMSG_ERROR, 0, 7, number(-19)))
	f.Add(part[:20])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := netlinkReply{seq: 7, dump: true}
		msgs, err := r.collect(feed(b))
		if err != nil && msgs != nil && !errors.Is(err, ErrNetlinkInterrupted) {
			t.Errorf("messages %v with error %v", msgs, err)
		}
		for _, m := range msgs {
			n := 0
			err := EachNetlinkAttr(m.Body, func(_ uint16, v []byte) error { n += 4 + len(v); return nil })
			if n > len(m.Body) {
				t.Errorf("attributes of %d bytes in %d (%v)", n, len(m.Body), err)
			}
		}
	})
}
