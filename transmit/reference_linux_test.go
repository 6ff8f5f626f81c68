package transmit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// referenceWays are what the C program in testdata/cref can do.
var referenceWays = []transmit.Backend{
	transmit.Write, transmit.Writev, transmit.ReadWrite, transmit.MmapWrite, transmit.Sendfile,
	transmit.Splice, transmit.Vmsplice, transmit.MsgZerocopy, transmit.IoUringSendZC, transmit.MmapZerocopy,
}

// A run is what a process says of its work: the line of JSON that the C program
// prints.
type run struct {
	Backend     transmit.Backend `json:"backend"`
	Size        int64            `json:"size"`
	Seconds     float64          `json:"seconds"`
	CPUSeconds  float64          `json:"cpu_seconds"`
	Bytes       int64            `json:"bytes"`
	Completions int64            `json:"completions"` // zero-copy sends, not notifications
	Copied      int64            `json:"copied"`      // of these
}

// buildReference builds the C program.
func buildReference(tb testing.TB) string {
	tb.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		tb.Skip("needs a C compiler")
	}
	sources, err := filepath.Glob("../testdata/cref/*.c")
	if err != nil || len(sources) == 0 {
		tb.Fatalf("no sources of the C program: %v", err)
	}
	bin := filepath.Join(tb.TempDir(), "cref")
	args := append([]string{"-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", bin}, sources...)
	if out, err := exec.CommandContext(tb.Context(), cc, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", cc, err, out)
	}
	return bin
}

// TestReference holds the C program to sending what it says it sends: figures
// that compare with it mean nothing otherwise.
func TestReference(t *testing.T) {
	cref := buildReference(t)
	for _, way := range referenceWays {
		for _, c := range []struct {
			name              string
			size, pool, total int
		}{
			{"one byte", 1, 1, 1},
			{"hot", 4096, 4096, 1<<20 + 5},
			{"pool", 65537, 5 * 65537, 4<<20 + 3},
			{"pieces beyond a pipe", 3<<20 + 1, 7 << 20, 13 << 20},
		} {
			t.Run(fmt.Sprintf("%s/%s", way, c.name), func(t *testing.T) {
				pool := c.pool - c.pool%c.size
				memory := make([]byte, pool)
				for i := range memory {
					memory[i] = byte(i + i/c.size*7)
				}
				file := filepath.Join(t.TempDir(), "pool")
				if err := os.WriteFile(file, memory, 0o600); err != nil {
					t.Fatal(err)
				}
				want := bytes.Repeat(memory, c.total/pool+1)[:c.total]
				got, r := referenceRun(t, exec.CommandContext(t.Context(), cref, "-p", strconv.Itoa(c.pool), "-f", file,
					string(way), strconv.Itoa(c.size), strconv.Itoa(c.total)))
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes arrived that are not the %d expected", len(got), len(want))
				}
				if r.Bytes != int64(c.total) || r.Backend != way || r.Size != int64(c.size) || r.Seconds <= 0 {
					t.Errorf("it says %+v of %d bytes", r, c.total)
				}
				// Over loopback every zero-copy send is copied.
				pieces := int64((c.total + c.size - 1) / c.size)
				if want := way.Notifies(); want != (r.Completions >= pieces) || r.Copied != r.Completions {
					t.Errorf("%d completions, %d copied, of %d pieces", r.Completions, r.Copied, pieces)
				}
			})
		}
	}
}

// referenceRun gives the program a loopback connection and returns what came out
// of the other end, and what the program said.
func referenceRun(t *testing.T, cmd *exec.Cmd) ([]byte, run) {
	t.Helper()
	near, far := loopback(t)
	sock, err := near.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{sock}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sock.Close() // only the program holds it now: its end is the stream's
	near.Close()
	got, err := io.ReadAll(far)
	if werr := cmd.Wait(); werr != nil {
		t.Fatalf("%v: %s", werr, &stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	var r run
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v in %q", err, &stdout)
	}
	return got, r
}

// loopback returns the ends of a TCP connection, which the test closes.
func loopback(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if err := l.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if far, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// TestReferenceRefuses looks at what the program does with what it cannot do.
func TestReferenceRefuses(t *testing.T) {
	cref := buildReference(t)
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{}, {"write"}, {"write", "1", "2", "127.0.0.1"}, {"teleport", "1", "1"},
		{"write", "0", "1"}, {"write", "-1", "1"}, {"write", "1k", "1"}, {"write", "1", "99999999999999999999"},
		{"sendfile", "1", "1"}, {"-f", "/nowhere", "sendfile", "1", "1"}, {"-f", short, "sendfile", "6", "6"},
		{"write", "1", "1"},                      // descriptor 3 is none
		{"write", "1", "1", "127.0.0.1", "http"}, // no number
	} {
		cmd := exec.CommandContext(t.Context(), cref, args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err == nil || stdout.Len() > 0 || stderr.Len() == 0 {
			t.Errorf("%q: %v, and it prints %q and %q", args, err, &stdout, &stderr)
		}
	}
}
