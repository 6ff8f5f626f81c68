package probe

import (
	"bytes"
	"errors"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// sendTally counts how files came through one system call.
type sendTally struct {
	op                              string
	equal, differ, refused, changed int64
	bytes                           int64
	errno                           string // of the first that was refused
}

func (t *sendTally) outcome(id string) Outcome {
	if t.equal+t.differ+t.refused+t.changed == 0 {
		return Outcome{ID: id, NotTried: "no file to try it with"}
	}
	return Outcome{ID: id, Steps: []Step{{Op: t.op, Errno: t.errno}},
		Seen: map[string]int64{"equal": t.equal, "differ": t.differ, "refused": t.refused, "changed": t.changed, "bytes": t.bytes}}
}

// add notes one file: what came, what read(2) gave before, and, where they
// differ, what it gives now.
func (t *sendTally) add(op string, got []byte, err error, want []byte, again func() []byte) {
	t.op = op
	switch {
	case err != nil:
		t.refused++
		if t.errno == "" {
			t.errno = sys.ErrnoName(err)
		}
		if t.errno == "" { // no system call failed
			t.errno = err.Error()
		}
	case bytes.Equal(got, want):
		t.equal++
		t.bytes += int64(len(got))
	case !bytes.Equal(again(), want):
		t.changed++ // while we looked: a log, say
	default:
		t.differ++
	}
}

// compare sends the beginning of a file in both ways.
func (r *dirReader) compare(fd int, info sys.FileInfo) {
	n := int(min(info.Size, dirTryBytes))
	want, err := readStart(fd, n)
	if err != nil {
		r.errorf("read: %v", err)
		return
	}
	if len(want) == 0 {
		return // it has become empty
	}
	again := func() []byte {
		b, err := readStart(fd, n)
		if err != nil {
			r.errorf("read: %v", err)
		}
		return b
	}
	got, err := throughSocket(fd, len(want))
	r.sendfile.add("sendfile", got, err, want, again)
	got, err = throughPipe(fd, len(want))
	r.splice.add("splice", got, err, want, again)
}

// readStart reads up to n bytes from the beginning of a file.
func readStart(fd, n int) ([]byte, error) {
	b := make([]byte, n)
	got := 0
	for got < n {
		m, err := sys.Pread(fd, b[got:], int64(got))
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		got += m
	}
	return b[:got], nil
}

var errNoProgress = errors.New("no progress")

// throughSocket sends n bytes from the beginning of a file to a local stream
// socket and returns what arrives. What is tested is the file's side; the
// socket is of the unix family, so that no network is involved.
func throughSocket(fd, n int) (got []byte, err error) {
	pair, err := sys.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sys.Close(pair[0]), sys.Close(pair[1])) }()
	got = make([]byte, 0, n)
	for off := int64(0); off < int64(n); {
		m, err := sys.Sendfile(pair[0], fd, &off, n-int(off))
		full := errors.Is(err, syscall.EAGAIN)
		if err != nil && !full {
			return nil, err
		}
		before := len(got)
		if got, err = drain(pair[1], got); err != nil {
			return nil, err
		}
		if m == 0 && !full {
			break // the file has become shorter
		}
		if full && len(got) == before {
			return nil, errNoProgress
		}
	}
	return got, nil
}

// throughPipe splices n bytes from the beginning of a file into a pipe and
// returns what comes out.
func throughPipe(fd, n int) (got []byte, err error) {
	p, err := sys.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sys.Close(p[0]), sys.Close(p[1])) }()
	got = make([]byte, 0, n)
	for off := int64(0); off < int64(n); {
		m, err := sys.Splice(fd, &off, p[1], n-int(off), 0)
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		if got, err = drain(p[0], got); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// drain appends what can be read without waiting, up to the capacity of b: no
// more than that was sent.
func drain(fd int, b []byte) ([]byte, error) {
	for len(b) < cap(b) {
		n, err := sys.Read(fd, b[len(b):cap(b)])
		if errors.Is(err, syscall.EAGAIN) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
	}
	return b, nil
}
