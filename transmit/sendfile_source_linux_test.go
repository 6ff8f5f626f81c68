package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestSendFileSources sends what a page cache has not, or not as others have it.
func TestSendFileSources(t *testing.T) {
	const size = 4 << 20
	content := pattern(size)
	for name, open := range map[string]func(t *testing.T) *os.File{
		"O_DIRECT": func(t *testing.T) *os.File {
			f, err := os.OpenFile(sourceFile(t, t.TempDir(), content).Name(), os.O_RDONLY|unix.O_DIRECT, 0)
			if errors.Is(err, syscall.EINVAL) {
				t.Skip("needs a file system with O_DIRECT")
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		},
		"sealed memfd": func(t *testing.T) *os.File {
			f := memfd(t, content)
			seals := unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
			if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
				t.Fatal(err)
			}
			return f
		},
		"hugetlb memfd": func(t *testing.T) *os.File {
			fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
			if err != nil {
				t.Skip("needs hugetlbfs")
			}
			f := os.NewFile(uintptr(fd), "huge")
			t.Cleanup(func() { f.Close() })
			if err := f.Truncate(size); err != nil {
				t.Fatal(err)
			}
			mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Skip("needs two huge pages (vm.nr_hugepages)")
			}
			copy(mem, content)
			if err := unix.Munmap(mem); err != nil {
				t.Fatal(err)
			}
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			for _, way := range fileWays() {
				t.Run(string(way), func(t *testing.T) {
					out, in := tcpPair(t)
					got := received(in)
					s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Log(d) }})
					if err != nil {
						t.Fatal(err)
					}
					c, err := s.SendFile(t.Context(), f, 4096, -1, FileOptions{Header: [][]byte{[]byte("header")}})
					if err != nil {
						t.Fatalf("after %d bytes: %v", c.Bytes(), err)
					}
					closeWrite(t, s)
					if b := <-got; string(b) != "header"+string(content[4096:]) {
						t.Errorf("%d bytes arrived", len(b))
					}
				})
			}
		})
	}
}

// TestSendFileEIO sends what cannot be read: the memory of this process at address 0.
func TestSendFileEIO(t *testing.T) {
	f, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, way := range fileWays() {
		out, in := tcpPair(t)
		got := received(in)
		s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(*Downgrade) {}})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := s.SendFile(t.Context(), f, 0, 5000, FileOptions{}); !errors.Is(err, syscall.EIO) || c.Bytes() != 0 {
			t.Errorf("%s: %d bytes, %v", way, c.Bytes(), err)
		}
		closeWrite(t, s)
		if b := <-got; len(b) > 0 {
			t.Errorf("%s: %d bytes arrived", way, len(b))
		}
	}
}

// TestSendFileLeaksNothing ends transfers in every way and counts what is left.
func TestSendFileLeaksNothing(t *testing.T) {
	f := sourceFile(t, t.TempDir(), pattern(8<<20))
	count := func() (int, int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds), runtime.NumGoroutine()
	}
	own := &pipePool{calls: kernelCalls()}
	round := func() {
		for _, way := range append(fileWays(), Vmsplice) {
			for _, how := range []string{"done", "context", "reset"} {
				out, in := tcpPair(t)
				s, err := NewSender(out, Options{Backend: way, DrainTimeout: time.Millisecond, OnDowngrade: func(*Downgrade) {}})
				if err != nil {
					t.Fatal(err)
				}
				s.pipes = own
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				switch how {
				case "done":
					cancel()
					ctx = t.Context()
					go func() { _, _ = io.Copy(io.Discard, in) }()
				case "reset":
					_ = in.SetLinger(0)
					in.Close()
				}
				if way == Vmsplice {
					_, _ = s.Send(ctx, make([]byte, 8<<20))
				} else {
					_, _ = s.SendFile(ctx, f, 0, -1, FileOptions{Header: [][]byte{[]byte("header")}})
				}
				cancel()
				_, _ = s.Close(t.Context())
				in.Close()
			}
		}
	}
	round()
	fds, routines := count()
	for range 5 {
		round()
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		now, running := count()
		if now <= fds && running <= routines {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors became %d, %d goroutines %d", fds, now, routines, running)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestSendFileAllocates: nothing, once it is under way.
func TestSendFileAllocates(t *testing.T) {
	f := sourceFile(t, t.TempDir(), pattern(1<<20))
	kept := NewMappings(MappingsOptions{})
	defer kept.Close()
	header := [][]byte{[]byte("header")}
	for _, way := range append(fileWays(), Vmsplice) {
		out, in := tcpPair(t)
		go func() { _, _ = io.Copy(io.Discard, in) }()
		s, err := NewSender(out, Options{Backend: way})
		if err != nil {
			t.Fatal(err)
		}
		memory, sends := make([]byte, 64<<10), 0
		ctx, cancel := context.WithCancel(t.Context())
		send := func() {
			var c Completion
			var err error
			if way == Vmsplice {
				c, err = s.Send(ctx, memory)
			} else {
				c, err = s.SendFile(ctx, f, 4096, 300<<10, FileOptions{Header: header, Mappings: kept})
			}
			if err != nil {
				t.Fatal(err)
			}
			// Now and then: the goroutine that looks for completions allocates when
			// it is woken.
			if sends++; sends%32 > 0 {
				return
			}
			if _, err := c.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			send()
		}
		if n := testing.AllocsPerRun(320, send); n >= 1 {
			t.Errorf("%s: %v allocations", way, n)
		}
		cancel()
		closeWrite(t, s)
	}
}

// TestSendFileStraced compares the calls that are made with those that the backend
// is named after.
func TestSendFileStraced(t *testing.T) {
	if way, ok := os.LookupEnv("SEND_FILE_STRACED"); ok {
		straced(t, Backend(way))
		return
	}
	strace := testenv.Tool(t, "strace")
	for way, want := range map[Backend]string{
		Sendfile:     "sendto:MSG_MORE sendfile",
		Splice:       "sendto:MSG_MORE splice splice",
		MmapWrite:    "sendmsg",
		MmapZerocopy: "sendto:MSG_MORE sendto:MSG_ZEROCOPY",
		ReadWrite:    "pread64 sendmsg",
	} {
		t.Run(string(way), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-e", "signal=none", "-e",
				"trace=sendfile,sendto,sendmsg,splice,vmsplice,pread64,write,writev", "/proc/self/exe", "-test.run=^TestSendFileStraced$")
			cmd.Path, cmd.Args[len(cmd.Args)-2] = strace, os.Args[0]
			cmd.Env = append(os.Environ(), "SEND_FILE_STRACED="+string(way))
			b, err := cmd.CombinedOutput()
			if err != nil {
				t.Skipf("needs strace to work: %v: %.300s", err, b)
			}
			var made []string
			inside := false
			for line := range strings.Lines(string(b)) {
				switch {
				case strings.Contains(line, "write(") && strings.Contains(line, "begin straced"):
					inside = true
				case strings.Contains(line, "write(") && strings.Contains(line, "end straced"):
					inside = false
				case inside && !strings.Contains(line, "NETLINK") && !strings.Contains(line, "resumed"):
					made = append(made, callOf(line)...)
				}
			}
			if got := strings.Join(made, " "); got != want {
				t.Errorf("%s, want %s\n%s", got, want, b)
			}
		})
	}
}

// callOf returns the name of a call that moves bytes, with the flags that matter.
func callOf(line string) []string {
	name, args, ok := strings.Cut(line, "(")
	if !ok {
		return nil
	}
	name = name[strings.LastIndexByte(name, ' ')+1:]
	if name == "write" { // of the runtime, to wake itself
		return nil
	}
	for _, flag := range []string{"MSG_ZEROCOPY", "MSG_MORE"} {
		if strings.Contains(args, flag) {
			return []string{name + ":" + flag}
		}
	}
	return []string{name}
}

// straced sends a header and a small file, between two marks.
func straced(t *testing.T, way Backend) {
	f := sourceFile(t, t.TempDir(), pattern(20000))
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{Backend: way})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "begin straced")
	if _, err := s.SendFile(t.Context(), f, 0, -1, FileOptions{Header: [][]byte{[]byte("header")}}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "end straced")
	if _, err := io.ReadFull(in, make([]byte, 20006)); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, s)
}
