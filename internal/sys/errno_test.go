package sys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestErrnoName(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{io.EOF, ""},
		{syscall.Errno(0), ""},
		{syscall.EOPNOTSUPP, "EOPNOTSUPP"},
		{syscall.Errno(524), "ENOTSUPP"},
		{syscall.EAGAIN, "EAGAIN"},
		{syscall.EWOULDBLOCK, "EAGAIN"},
		{syscall.EPERM, "EPERM"},
		{syscall.ENOBUFS, "ENOBUFS"},
		{syscall.EMSGSIZE, "EMSGSIZE"},
		{syscall.EDEADLK, "EDEADLK"},
		{Wrap("send", syscall.ENOBUFS), "ENOBUFS"},
		{fmt.Errorf("more: %w", Wrap("send", syscall.Errno(524))), "ENOTSUPP"},
		{syscall.Errno(3999), "errno 3999"},
	} {
		if got := ErrnoName(c.err); got != c.want {
			t.Errorf("ErrnoName(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestWrapMatches(t *testing.T) {
	if Wrap("x", nil) != nil {
		t.Error("Wrap(nil) is not nil")
	}
	for _, e := range []syscall.Errno{524, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOPROTOOPT,
		syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT} {
		err := fmt.Errorf("outer: %w", Wrap("op", e))
		if !errors.Is(err, errors.ErrUnsupported) || !Unsupported(err) || !Unsupported(e) {
			t.Errorf("%v does not match ErrUnsupported", e)
		}
		if !errors.Is(err, e) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v does not match itself alone", e)
		}
	}
	for _, e := range []syscall.Errno{syscall.EPERM, syscall.EACCES} {
		if err := Wrap("op", e); !errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v does not match ErrPermission alone", e)
		}
	}
	for _, e := range []syscall.Errno{syscall.EINVAL, syscall.ENOBUFS, syscall.ENODEV} {
		if err := Wrap("op", e); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v matches more than itself", e)
		}
	}
	if got := Wrap("setsockopt SO_ZEROCOPY", syscall.Errno(524)).Error(); !strings.Contains(got, "not supported") {
		t.Errorf("text of 524 is %q", got)
	}
}
