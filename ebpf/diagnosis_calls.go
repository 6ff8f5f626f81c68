package ebpf

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// How much has to be seen before something is called a habit.
const (
	loopLeast     = 256 << 10 // bytes
	loopMeanLeast = 4 << 10   // bytes in a call; below that two copies cost less than two calls
	sendsLeast    = 16
	splicesLeast  = 64
)

func errnoName(errno int32) string { return sys.ErrnoName(syscall.Errno(errno)) }

// adviseRefused is about calls that would not have copied, and were refused. That
// alone may be how a program finds out what works; it takes a loop between the
// same two files to say that it copies for that.
func adviseRefused(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, fell := range f.calls {
		if fell.pattern != patternFellBack {
			continue
		}
		var refusals uint64
		for _, c := range f.calls {
			if c.pattern == patternRefused && c.pid == fell.pid && c.call == fell.call && c.errno == fell.errno &&
				c.source == fell.source && c.target == fell.target {
				refusals += c.calls
			}
		}
		what := fmt.Sprintf("%s from %s to %s", fell.call, fell.source, fell.target)
		advice = append(advice, Advice{
			ID: "fast-path-refused", PID: fell.pid, Comm: fell.comm, Calls: refusals, Bytes: fell.bytes,
			Text: fmt.Sprintf("The kernel refused %s to %s with %s, which then copied at least %s through its own memory.",
				what, fell.who(), errnoName(fell.errno), size(fell.bytes)),
			Remedy: refusedRemedy(fell),
			Evidence: []probe.Evidence{
				{Source: fell.call, Value: fmt.Sprintf("%s %s, from %s to %s", errnoName(fell.errno), times(refusals), fell.source, fell.target)},
				{Source: "read and write", Value: fmt.Sprintf("%s between the same two, %s, unchanged", size(fell.bytes), times(fell.calls))},
			},
		})
	}
	for _, c := range f.calls {
		if c.pattern != patternSendPages {
			continue
		}
		a := Advice{PID: c.pid, Comm: c.comm, Calls: c.calls,
			Evidence: []probe.Evidence{{Source: c.call, Value: fmt.Sprintf("%s %s, from %s to %s", errnoName(c.errno), times(c.calls), c.source, c.target)}}}
		switch {
		case syscall.Errno(c.errno) == syscall.EMSGSIZE && c.target == partyUDP:
			a.ID = "udp-sendfile-emsgsize"
			a.Text = fmt.Sprintf("The kernel refused %s of %s to a UDP socket %s: it was more than fits one datagram.", c.call, c.who(), times(c.calls))
		case syscall.Errno(c.errno) == syscall.EIO && c.source == partyPipe:
			a.ID = "page-not-sendable"
			a.Text = fmt.Sprintf("The kernel refused %s of %s from a pipe to %s %s: pages in it are of a kind that must not go into packets.",
				c.call, c.who(), c.target, times(c.calls))
		default:
			continue // an error of the disk is EIO, too
		}
		advice = append(advice, a)
	}
	return advice, nil
}

func refusedRemedy(c callCount) string {
	switch {
	case c.call == "sendfile" && c.source != partyFile:
		return "sendfile takes files alone: use splice(2), from the pipe straight to the socket, or from a socket through a pipe. " +
			"In Go: transmit.Copy does."
	case c.call == "copy_file_range" && c.target != partyFile:
		return "copy_file_range copies between files of one file system alone: use sendfile(2) from a file, splice(2) from a pipe or socket."
	}
	return ""
}

// adviseLoops is about payload that a program reads and writes without a change.
func adviseLoops(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, c := range f.calls {
		if c.pattern != patternLoop || c.bytes < loopLeast || c.bytes/c.calls < loopMeanLeast {
			continue
		}
		// What was refused is said as such.
		if slices.ContainsFunc(f.calls, func(r callCount) bool {
			return r.pattern == patternFellBack && r.pid == c.pid && r.source == c.source && r.target == c.target && r.bytes*2 > c.bytes
		}) {
			continue
		}
		call := "splice"
		if c.source == partyFile {
			call = "sendfile"
		}
		a := Advice{
			ID: "copy-loop", PID: c.pid, Comm: c.comm, Calls: c.calls, Bytes: c.bytes,
			Text: fmt.Sprintf("%s copied at least %s from %s to %s through its own memory, unchanged, where %s would have copied nothing.",
				c.who(), size(c.bytes), c.source, c.target, call),
			Remedy: loopRemedy(c, call),
			Evidence: []probe.Evidence{{Source: "read and " + c.call,
				Value: fmt.Sprintf("%s, %s at a time, from where they had been read to, unchanged where that was looked at", times(c.calls), size(c.bytes/c.calls))}},
		}
		if version := f.goVersion[c.pid]; version != "" {
			a.Evidence = append(a.Evidence, probe.Evidence{Source: fmt.Sprintf("/proc/%d/exe", c.pid), Value: "built by " + version})
			a.Remedy = goRemedy(c)
		}
		advice = append(advice, a)
	}
	return advice, nil
}

func loopRemedy(c callCount, call string) string {
	switch {
	case c.comm == "nginx" && c.source == partyFile:
		return "Set `sendfile on;` in nginx.conf."
	case call == "sendfile":
		return "Call sendfile(2), or switch on the setting of the program that does."
	case c.source == partyPipe:
		return "Call splice(2) from the pipe to the socket."
	}
	return "Call splice(2) from the socket into a pipe and from that to the other socket."
}

// goRemedy names the shapes in which Go's io.Copy and net/http copy themselves.
func goRemedy(c callCount) string {
	var shapes []string
	switch c.source {
	case partyFile:
		shapes = []string{
			"the connection or the file wrapped in another type (struct{ io.Writer }, an http.ResponseWriter without ReadFrom)",
			"io.TeeReader, io.SectionReader or io.MultiWriter in between", "two io.LimitReaders on each other",
			"http.FileServerFS and ServeFileFS", "a response without Content-Length", "http.TimeoutHandler", "several ranges",
		}
	case partyTCP, partyUnix:
		shapes = []string{"a connection wrapped in another type", "io.TeeReader or io.MultiWriter in between", "between two Unix sockets"}
	case partyPipe:
		shapes = []string{"a pipe as the source, such as a command's output"}
	}
	return "Go gives sendfile and splice up for: " + strings.Join(shapes, "; ") +
		". Hand io.Copy the *net.TCPConn and the *os.File themselves, give wrappers a ReadFrom, or use transmit.Copy and, for servers and wrappers, transmit.Wrap."
}

// adviseZeroCopyCalls is about the way MSG_ZEROCOPY is used.
func adviseZeroCopyCalls(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, c := range f.calls {
		switch {
		case c.pattern == patternNoOption:
			advice = append(advice, Advice{
				ID: "no-so-zerocopy", PID: c.pid, Comm: c.comm, Calls: c.calls, Bytes: c.bytes,
				Text: fmt.Sprintf("%s sent %s with MSG_ZEROCOPY on %s without SO_ZEROCOPY: the kernel copies, and sends no completion.",
					c.who(), times(c.calls), c.target),
				Evidence: []probe.Evidence{
					{Source: c.call, Value: fmt.Sprintf("MSG_ZEROCOPY %s, %s accepted", times(c.calls), size(c.bytes))},
					{Source: "the socket", Value: fmt.Sprintf("SO_ZEROCOPY is not set; inode %d", c.inode)},
				},
			})
		case c.pattern == patternZeroCopy && c.calls >= sendsLeast && c.small*2 >= c.calls:
			advice = append(advice, Advice{
				ID: "small-send", PID: c.pid, Comm: c.comm, Calls: c.small, Bytes: c.bytes,
				Text: fmt.Sprintf("%d of %d sends of %s with MSG_ZEROCOPY were of less than %s, which is cheaper to copy.",
					c.small, c.calls, c.who(), size(smallSend)),
				Evidence: []probe.Evidence{
					{Source: c.call, Value: fmt.Sprintf("%d of %d below %s; %s on average", c.small, c.calls, size(smallSend), size(c.bytes/c.calls))},
					{Source: "threshold", Value: "the size from which package transmit lends memory that is not in the cache, measured on one machine; " +
						"32.0 KiB for memory that is; `zcprobe bench` measures this one"},
				},
			})
		case c.pattern == patternNoPages:
			advice = append(advice, Advice{
				ID: "gup-efault", PID: c.pid, Comm: c.comm, Calls: c.calls,
				Text: fmt.Sprintf("%s of %s with MSG_ZEROCOPY failed %s with EFAULT: the memory cannot be pinned, or is not there.",
					c.call, c.who(), times(c.calls)),
				Evidence: []probe.Evidence{{Source: c.call, Value: "EFAULT " + times(c.calls)}},
			})
		}
	}
	return advice, nil
}

// adviseNoBuffers names the limit by which sends were refused.
func adviseNoBuffers(f *diagnosisFacts) (advice []Advice, gaps []string) {
	const (
		page     = 4096
		record   = 2 << 10 // more than the record of one completion takes
		extra    = 2       // pages charged beyond those of the payload
		infinite = ^uint64(0)
	)
	for _, c := range f.calls {
		if c.pattern != patternNoBuffers {
			continue
		}
		most := f.optmemMax
		for _, s := range f.sockets {
			if s.Inode == c.inode && s.optmemMax > 0 {
				most = s.optmemMax
			}
		}
		needed := (c.lockedPages + c.asked/page + extra) * page
		a := Advice{PID: c.pid, Comm: c.comm, Calls: c.calls, Evidence: []probe.Evidence{
			{Source: c.call, Value: "ENOBUFS " + times(c.calls)}}}
		switch {
		case most > 0 && c.optmem+record > most:
			a.ID, a.Bytes = "optmem-limit", c.optmem
			a.Text = fmt.Sprintf("The kernel refused sends of %s with MSG_ZEROCOPY %s (ENOBUFS): too many completions are unread or outstanding, net.core.optmem_max is %s.",
				c.who(), times(c.calls), size(most))
			a.Evidence = append(a.Evidence, probe.Evidence{Source: "option memory of the socket", Value: fmt.Sprintf("%d of %d bytes", c.optmem, most)})
		case c.asked > 0 && c.memlock != infinite && needed > c.memlock:
			a.ID, a.Bytes = "memlock-limit", needed
			a.Text = fmt.Sprintf("The kernel refused sends of %s with MSG_ZEROCOPY %s (ENOBUFS): they would lock more memory than the RLIMIT_MEMLOCK of %s.",
				c.who(), times(c.calls), size(c.memlock))
			a.Remedy = fmt.Sprintf("`prlimit --pid %d --memlock=unlimited` for the running process; `LimitMEMLOCK=infinity` in its systemd unit, `--ulimit memlock=-1` for a container.", c.pid)
			a.Evidence = append(a.Evidence,
				probe.Evidence{Source: "RLIMIT_MEMLOCK of the process", Value: fmt.Sprintf("%d bytes", c.memlock)},
				probe.Evidence{Source: "locked memory of the user", Value: fmt.Sprintf("%d bytes, and the smallest refused send takes %d", c.lockedPages*page, (c.asked/page+extra)*page)})
		default:
			gaps = append(gaps, fmt.Sprintf("%d sends of %s with MSG_ZEROCOPY failed with ENOBUFS, and nothing tells by which limit", c.calls, c.who()))
			continue
		}
		advice = append(advice, a)
	}
	return advice, gaps
}

func adviseHeaders(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, c := range f.calls {
		if c.pattern != patternHeader {
			continue
		}
		remedy := ""
		if c.comm == "nginx" {
			remedy = "Set `tcp_nopush on;` in nginx.conf."
		}
		advice = append(advice, Advice{
			ID: "cork-missing", PID: c.pid, Comm: c.comm, Calls: c.calls, Bytes: c.bytes, Remedy: remedy,
			Text: fmt.Sprintf("%s sent a small header by itself %s and then called %s on the same connection: a packet more, and the end of the file waits for an acknowledgement.",
				c.who(), times(c.calls), c.call),
			Evidence: []probe.Evidence{{Source: c.call, Value: fmt.Sprintf("%s within 100ms behind a send of at most 4.0 KiB, without MSG_MORE, TCP_CORK and TCP_NODELAY", times(c.calls))}},
		})
	}
	return advice, nil
}

func adviseSplices(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, c := range f.calls {
		if c.pattern != patternSplice || c.calls < splicesLeast {
			continue
		}
		mean := c.bytes / c.calls
		seen := []probe.Evidence{{Source: c.call, Value: fmt.Sprintf("%s from a pipe to %s, %s on average, %d of them of at most %s",
			times(c.calls), c.target, size(mean), c.small, size(smallSplice))}}
		if c.slots > 0 {
			seen = append(seen, probe.Evidence{Source: "the pipe", Value: count(uint64(c.slots), "slot") + " of a page; the pipes of the user may hold " + count(c.pipePages, "page")})
		}
		a := Advice{PID: c.pid, Comm: c.comm, Calls: c.calls, Bytes: c.bytes, Evidence: seen}
		// Pipes of a user above fs.pipe-user-pages-soft have two slots
		// (PIPE_MIN_DEF_BUFFERS); the usual sixteen would take it there.
		const shrunk, usual = 2, 16
		switch {
		case c.slots > 0 && c.slots <= shrunk && f.pipeSoft > 0 && c.pipePages+usual > f.pipeSoft:
			a.ID = "pipe-slots"
			a.Text = fmt.Sprintf("The pipes that %s splices through hold %s: its user is at fs.pipe-user-pages-soft, with %d of %d pages.",
				c.who(), count(uint64(c.slots), "page"), c.pipePages, f.pipeSoft)
		case mean <= smallSplice && c.small*2 > c.calls:
			a.ID = "small-splice"
			a.Text = fmt.Sprintf("%s splices %s at a time: pieces as small as that cost more than a copy.", c.who(), size(mean))
			if c.slots > 0 && c.slots <= shrunk {
				a.Text = fmt.Sprintf("%s splices %s at a time, through pipes that hold no more than %s: pieces as small as that cost more than a copy.",
					c.who(), size(mean), count(uint64(c.slots), "page"))
				a.Remedy = "Enlarge the pipe with F_SETPIPE_SZ to 1 MiB, and splice as much as it holds."
			}
		default:
			continue
		}
		advice = append(advice, a)
	}
	return advice, nil
}
