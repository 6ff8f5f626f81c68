package transmit

import (
	"context"
	"math"
	"os"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// fileSend is the file transfer that is under way. A Sender that never sends a
// file has none.
type fileSend struct {
	ctx  context.Context
	o    FileOptions
	file *os.File
	src  int // descriptor
	stat sys.Stat

	device     uint64 // of the last file that was asked whether it is old
	known, old bool   // the answer

	start, pos, end int64 // of the range; pos is that of the next byte to be sent
	named           bool  // the caller named the length
	open            bool  // the end is where reading ends: the size is not known

	parts      [][]byte // header and trailer
	head, tail [][]byte // what is left of them

	way     Backend           // planned
	now     Backend           // of the piece that is under way
	asked   bool              // for the way, by name
	refused ways              // what the kernel does not do with this file
	demoted ways              // what it does not do at all, found by an earlier transfer
	moved   [len(order)]int64 // bytes of the range, by way
	reap    int               // transfers that wait for the peer from which on it is asked
	stalled int               // attempts in a row that found room and could not use it

	off    int64   // given to the kernel
	buf    *[]byte // of copyBuffers
	window []byte  // of it, read and not sent
	pipe   *pipe   // with bytes from pos on
	corked bool

	lease   *Lease
	checked int64   // position up to which the file is known not to have changed
	mapping Mapping // none if its region is nil
	detour  int64   // up to where another way is taken than mmap_zerocopy
	size    int64   // of the file, as far as the mapping goes

	err error // of preparing
}

// SendFile sends length bytes of a file from offset on, or with length -1 all from
// there to its end as it is now. It returns when the kernel has taken them. The
// position of the file is neither used nor moved, and f may be closed then.
//
// The Completion says when the file may change again, which is not when the call
// returns: sendfile, splice and mmap_zerocopy send references to the file's pages.
// Whatever changes them before is sent, and once more in another state if a packet
// is sent again. See FileOptions.Snapshot for a file that changes.
//
// Where the kernel refuses a way the next best goes on at the byte where it
// stopped, and a [Downgrade] is told. A file that ends before the range, or is made
// shorter while it is sent, is a [*TruncatedError], and Trailer is then not sent.
// What was beyond the end from the start sends nothing.
//
// Sources: everything that can be read at an offset: regular files, block devices,
// memfds, files of procfs and sysfs, /dev/zero. A directory is syscall.EISDIR, a
// file not open for reading syscall.EBADF, and pipes and sockets match
// errors.ErrUnsupported: [Relay] sends these. Targets: connections, pipes, and
// files, at their own position; [CopyFile] is better from file to file.
//
// Over UDP, and on unix sockets with messages, everything is one datagram, sent
// whole or not at all.
func (s *Sender) SendFile(ctx context.Context, f *os.File, offset, length int64, o FileOptions) (Completion, error) {
	if err := checkRange(offset, length); err != nil {
		return Completion{}, fileError(f, err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return Completion{}, fileError(f, err)
	}
	if err := s.begin(ctx); err != nil {
		return Completion{}, err
	}
	defer s.end()
	if s.file == nil {
		s.file = &fileSend{}
		s.filePiece, s.fileOpen = s.sendPiece, s.openFile
	}
	fs := s.file
	fs.ctx, fs.file, fs.o = ctx, f, o
	fs.start, fs.pos, fs.end, fs.named = offset, offset, offset+length, length >= 0
	fs.checked, fs.err = offset, nil
	defer s.letGo()
	// The descriptor stays open for as long as it is sent from.
	if err := raw.Control(s.fileOpen); err != nil {
		return Completion{}, fileError(f, closedError(err))
	}
	if fs.err != nil {
		return Completion{}, fs.err
	}
	return s.close(fs.most())
}

// openFile sends the file, whose descriptor stays open meanwhile.
func (s *Sender) openFile(fd uintptr) {
	fs := s.file
	fs.src = int(fd)
	if err := s.inspect(); err != nil {
		fs.err = fileError(fs.file, err)
		return
	}
	if fs.err = s.open(); fs.err != nil {
		if fs.lease != nil {
			_ = fs.lease.Release() // nothing was sent under it
		}
		return
	}
	o := &fs.o
	fs.parts = append(append(fs.parts[:0], o.Header...), o.Trailer...)
	fs.head, fs.tail = dropEmpty(fs.parts[:len(o.Header):len(o.Header)]), dropEmpty(fs.parts[len(o.Header):])
	s.mu.Lock()
	e := &s.led.entries[s.job.entry]
	e.parts = append(e.parts, fs.head...)
	e.parts = append(e.parts, fs.tail...)
	if fs.lease != nil {
		s.led.charge(s.job.entry, &leaseLoan{lease: fs.lease})
	}
	s.mu.Unlock()
	if s.kind.datagrams() {
		s.fileDatagram()
		return
	}
	fs.choose(s)
	s.job.run = s.filePiece
	s.drive(fs.ctx)
}

// letGo ends the transfer's hold on what it used.
func (s *Sender) letGo() {
	fs, j := s.file, &s.job
	if fs.pipe != nil {
		s.pipes.put(fs.pipe)
	}
	if fs.buf != nil {
		copyBuffers.Put(fs.buf)
	}
	if fs.mapping.region != nil {
		fs.mapping.Release()
	}
	clear(fs.parts)
	clear(j.parts)
	j.rest, j.follows, j.mapped, j.least = nil, false, false, 0
	*fs = fileSend{parts: fs.parts[:0], demoted: fs.demoted, reap: fs.reap,
		device: fs.device, known: fs.known, old: fs.old}
}

// pieceBytes is the most that one call takes from a file: how long a slow disk
// holds up the end of a context, which is looked at between calls. From a quarter of
// it on the calls no longer show in the rate.
const pieceBytes = 4 << 20

// sendPiece sends a piece of the file, or of what goes before and after it.
func (s *Sender) sendPiece(fd int) verdict {
	fs, j := s.file, &s.job
	if fs.ctx.Err() != nil {
		j.err = context.Cause(fs.ctx)
	} else {
		s.checkLease(pieceBytes)
	}
	var v verdict
	switch {
	case j.err != nil:
		v = finish
	case fs.pos == fs.end:
		if v = finish; len(fs.head)+len(fs.tail) > 0 {
			v, _ = s.sendParts(fd, nil)
		}
	default:
		v = s.sendBytes(fd)
	}
	if v == finish && j.err == nil {
		s.checkLease(0)
	}
	if j.more = j.more || fs.corked; v == finish {
		s.flushFD(fd)
		s.reapAcked(fd)
	}
	return v
}

// reapAcked asks how far the peer is when many transfers wait for it: a connection
// that keeps sending by reference has no other reason to look.
func (s *Sender) reapAcked(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.led.gated) >= max(s.file.reap, reapAt) {
		s.drainLocked(fd)
		s.file.reap = 2 * len(s.led.gated)
	}
}

// sendBytes sends a piece of the file.
func (s *Sender) sendBytes(fd int) verdict {
	fs := s.file
	if fs.now = fs.way; fs.way == MmapZerocopy && !s.lends(fd) {
		fs.now = fs.next(MmapZerocopy)
	}
	switch fs.now {
	case MmapZerocopy, MmapWrite:
		return s.byMapping(fd)
	case Sendfile:
		return s.bySendfile(fd)
	case Splice:
		return s.bySplice(fd)
	}
	return s.byReading(fd)
}

// sendParts sends what is left of the header, a piece of the file that is in
// memory and, if it is the last, the trailer. It returns how many bytes of the
// file went.
func (s *Sender) sendParts(fd int, window []byte) (verdict, int) {
	fs, j := s.file, &s.job
	last := fs.pos+int64(len(window)) == fs.end
	j.rest = append(j.parts[:0], fs.head...)
	if len(window) > 0 {
		j.rest = append(j.rest, window)
	}
	if last {
		j.rest = append(j.rest, fs.tail...)
	}
	j.parts = j.rest
	j.follows, j.whole = !last, 0
	if fs.now == MmapZerocopy && len(fs.head) == 0 && len(window) > 0 {
		j.whole = maxInt // the rest of a range goes the way of all of it
	}
	before := j.result.Bytes
	v := s.sendMemory(fd)
	n := int(j.result.Bytes - before)
	fs.head, n = consume(fs.head, n)
	of := min(n, len(window))
	_, n = fs.advance(of), n-of
	fs.tail, _ = consume(fs.tail, n)
	if v == finish && j.err == nil && (!last || len(fs.tail) > 0 || of < len(window)) {
		v = goOn
	}
	if v == wait {
		v = s.noRoom(fd)
	}
	return v, of
}

// consume takes n bytes from the front of parts, and returns what is left of both.
func consume(parts [][]byte, n int) ([][]byte, int) {
	for len(parts) > 0 && n > 0 {
		m := min(n, len(parts[0]))
		if n -= m; m < len(parts[0]) {
			parts[0] = parts[0][m:]
			break
		}
		parts = parts[1:]
	}
	return parts, n
}

// advance notes that n bytes of the range were sent.
func (fs *fileSend) advance(n int) int64 {
	fs.pos += int64(n)
	fs.moved[rank(fs.now)] += int64(n)
	if n > 0 {
		fs.stalled = 0
	}
	return fs.pos
}

// took notes that the kernel took n bytes of the file that never were in our
// memory.
func (s *Sender) took(n int) {
	j := &s.job
	j.result.Bytes += int64(n)
	s.sent.Add(uint64(n))
	s.zc.room -= n
	s.zc.growing.copied(n) // as good as: it does not notify either
	if s.to.refers() {
		j.lent += int64(n)
		j.shared = !s.file.o.Immutable && !s.tls.on
	}
	if !s.to.refers() || s.tls.copies() {
		j.result.PlainBytes += int64(n)
	}
	s.file.advance(n)
}

// ended decides what the end of the file before that of the range means.
func (s *Sender) ended() verdict {
	fs := s.file
	if !fs.open && !fs.named {
		// Files that are made when they are read often claim a page.
		if st, err := s.calls.Fstat(fs.src); err == nil && st.Size >= fs.end {
			fs.open = true
		}
	}
	if fs.open && !fs.named {
		fs.end = fs.pos
		return goOn
	}
	e := &TruncatedError{Sent: fs.pos - fs.start, Want: fs.end - fs.start}
	if st, err := s.calls.Fstat(fs.src); err == nil && !fs.open && st.Size < fs.pos {
		e.ZeroBytes = fs.pos - max(st.Size, fs.start)
	}
	s.job.err = e
	return finish
}

// room returns how many bytes up to n may go now, 0 for none: while notifications
// are to come the socket has to stay writable, see makeRoom.
func (s *Sender) room(fd, n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.led.ids.n == 0 {
		return n
	}
	return min(n, s.makeRoom(fd, n))
}

// noRoom is what to do when the target takes nothing more: wait, in slices if the
// runtime does not do so.
func (s *Sender) noRoom(fd int) verdict {
	if s.kind != kindFile || !s.to.blocking {
		return wait
	}
	// An error comes again, from the next attempt.
	_, _ = s.calls.Poll(fd, sys.PollOut, int(pollSlice.Milliseconds()))
	return goOn
}

// left returns how many bytes of the range are left, at most so many.
func (fs *fileSend) left(most int) int {
	end := fs.end
	if fs.detour > fs.pos {
		end = min(end, fs.detour)
	}
	return int(min(end-fs.pos, int64(most)))
}

const noEnd = math.MaxInt64
