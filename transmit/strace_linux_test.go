package transmit

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// straceEnv names what the test is to do under strace.
const straceEnv = "ZCPROBE_TEST_STRACE"

// traced are the deeds of TestTheCallsMade, and the calls that strace must see for
// each, in this order, between the two marks that the deed is wrapped in.
var traced = []struct {
	name string
	do   func(t *testing.T)
	want string // a regular expression over the calls, by name and what is said of them
	not  string
}{
	{"tcp to tcp", func(t *testing.T) {
		from, to := tracedStream(t, 100_000)
		mark("begin")
		if _, err := Relay(t.Context(), to, from, -1, RelayOptions{}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `splice\(TCP, NULL, PIPE, NULL, 1048576, SPLICE_F_NONBLOCK\) = \d+;splice\(PIPE, NULL, TCP, NULL, \d+, SPLICE_F_NONBLOCK\) = \d+;`, `read|write|MORE|EAGAIN`},
	{"small", func(t *testing.T) {
		from, to := tracedStream(t, 4096)
		mark("begin")
		if _, err := Relay(t.Context(), to, from, 4096, RelayOptions{}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `^read\(TCP, .*, 4096\) = 4096;write\(TCP, .*, 4096\) = 4096;$`, `splice`},
	{"pipe to tcp", func(t *testing.T) {
		r, w := osPipe(t)
		_, to := tracedStream(t, 0)
		if _, err := w.Write(pattern(50_000)); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		mark("begin")
		if _, err := Relay(t.Context(), to, r, -1, RelayOptions{}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `splice\(PIPE, NULL, TCP, NULL, 65536, SPLICE_F_NONBLOCK\) = 50000;splice\(PIPE, NULL, TCP, NULL, 65536, SPLICE_F_NONBLOCK\) = 0;`, `read|write|MORE`},
	{"copy", func(t *testing.T) {
		dir := shmDir(t)
		src, dst := fileIn(t, dir, pattern(300_000)), fileIn(t, dir, nil)
		mark("begin")
		if _, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `ioctl\(FILE, (BTRFS_IOC_CLONE_RANGE or )?FICLONERANGE.*copy_file_range\(FILE, .*FILE, .*, 300000, 0\) = 300000;$`, `read|write|splice|sendfile`},
	{"copy elsewhere", func(t *testing.T) {
		src, dst := fileIn(t, shmDir(t), pattern(100_000)), fileIn(t, t.TempDir(), nil)
		mark("begin")
		if _, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{OnDowngrade: func(*Downgrade) {}}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `copy_file_range.* EXDEV .*splice\(FILE, \[0\].*, PIPE, NULL, 100000, .*\) = 100000;splice\(PIPE, NULL, FILE, \[0\].*, 100000, .*\) = 100000;$`, `read|write|sendfile`},
	{"copy by sendfile", func(t *testing.T) {
		dir := shmDir(t)
		src, dst := fileIn(t, dir, pattern(100_000)), fileIn(t, dir, nil)
		mark("begin")
		if _, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{Backend: Sendfile}); err != nil {
			t.Error(err)
		}
		mark("end")
	}, `sendfile\(FILE, FILE, \[0\].*, 100000\) = 100000;$`, `read|write|splice|copy_file_range`},
}

// mark makes a call that strace shows and that does nothing.
func mark(s string) { _, _ = os.Readlink("/zcprobe-" + s) }

// tracedStream returns a stream that has n bytes, and has ended, and another to write
// to.
func tracedStream(t *testing.T, n int) (from, to *net.TCPConn) {
	near, far := tcpPair(t)
	out, peer := tcpPair(t)
	if _, err := far.Write(pattern(n)); err != nil {
		t.Fatal(err)
	}
	_ = far.CloseWrite()
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	return near, out
}

func TestTheCallsMade(t *testing.T) {
	if name := os.Getenv(straceEnv); name != "" {
		for _, c := range traced {
			if c.name == name {
				runtime.LockOSThread() // all calls in one thread, for strace
				c.do(t)
			}
		}
		return
	}
	strace := testenv.Tool(t, "strace")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range traced {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "strace")
			cmd := exec.CommandContext(t.Context(), strace, "-f", "-y", "-s0", "-o", log,
				"-e", "trace=read,write,splice,sendfile,copy_file_range,ioctl,readlinkat,pread64,pwrite64", exe, "-test.run=^TestTheCallsMade$")
			cmd.Env = append(os.Environ(), straceEnv+"="+c.name)
			if out, err := cmd.CombinedOutput(); err != nil {
				if strings.Contains(string(out), "ptrace") {
					t.Skipf("needs leave to trace: %s", out)
				}
				t.Fatalf("%v\n%s", err, out)
			}
			raw, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			got := callsBetweenMarks(t, string(raw))
			if !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("strace saw\n%s\nwant %s", strings.ReplaceAll(got, ";", "\n"), c.want)
			}
			if regexp.MustCompile(c.not).MatchString(got) {
				t.Errorf("strace saw\n%s\nwant nothing of %s", strings.ReplaceAll(got, ";", "\n"), c.not)
			}
		})
	}
}

var (
	straceLine = regexp.MustCompile(`^(\d+) +(.*)$`)
	straceKind = []struct {
		re   *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`\d+<(TCP|socket):[^>]*>`), "TCP"},
		{regexp.MustCompile(`\d+<pipe:[^>]*>`), "PIPE"},
		{regexp.MustCompile(`\d+<anon_inode:[^>]*>`), "ANON"},
		{regexp.MustCompile(`\d+</[^>]*>`), "FILE"},
		{regexp.MustCompile(` +`), " "},
	}
)

// callsBetweenMarks returns the calls of the thread that made the marks, each ended
// by a semicolon, with kinds of descriptors in place of their numbers.
func callsBetweenMarks(t *testing.T, log string) string {
	t.Helper()
	_, after, ok := strings.Cut(log, "/zcprobe-begin")
	between, _, ok2 := strings.Cut(after, "/zcprobe-end")
	if !ok || !ok2 {
		t.Fatalf("no marks in\n%s", log)
	}
	before := log[:len(log)-len(after)]
	pid, _, _ := strings.Cut(before[strings.LastIndex(before, "\n")+1:], " ")
	var b strings.Builder
	for _, line := range strings.Split(between, "\n") {
		m := straceLine.FindStringSubmatch(line)
		if m == nil || m[1] != pid || strings.Contains(m[2], "readlinkat") || strings.Contains(m[2], "SIG") {
			continue
		}
		call := m[2]
		if strings.Contains(call, "unfinished") || strings.Contains(call, "resumed") {
			call = strings.NewReplacer(" <unfinished ...>", "", ";", "").Replace(call)
		}
		for _, k := range straceKind {
			call = k.re.ReplaceAllString(call, k.with)
		}
		if !strings.Contains(call, "ANON") { // Go's poller
			b.WriteString(call + ";")
		}
	}
	// What was interrupted is on two lines.
	return regexp.MustCompile(`;<\.\.\. \w+ resumed>`).ReplaceAllString(b.String(), "")
}
