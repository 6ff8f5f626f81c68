package transmit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
	"golang.org/x/sys/unix"
)

// starvedEnv makes a run of this test binary the ordinary user with little locked
// memory that TestLockedMemory asks for.
const starvedEnv = "ZCPROBE_TEST_MEMLOCK"

type starved struct {
	Stats transmit.Stats
	Told  []string
}

// TestStarvedChild is not a test: it is where the child begins.
func TestStarvedChild(t *testing.T) {
	limit := uint64(0)
	switch os.Getenv(starvedEnv) {
	case "":
		return
	case "0":
	case "64K":
		limit = 64 << 10
	case "1M":
		limit = 1 << 20
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	var r starved
	s, err := transmit.NewSender(out, transmit.Options{Backend: transmit.MsgZerocopy, OnDowngrade: func(d *transmit.Downgrade) {
		r.Told = append(r.Told, d.Cause)
		if !errors.Is(d, syscall.ENOBUFS) {
			t.Error(d)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	const size, sends = 256 << 10, 40
	got := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, in)
		got <- n
	}()
	for range sends {
		if c, err := s.Send(t.Context(), make([]byte, size)); err != nil || c.Bytes() != size {
			t.Fatalf("%d bytes, %v", c.Bytes(), err)
		}
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size*sends {
		t.Errorf("%d bytes arrived", n)
	}
	r.Stats = s.Stats()
	if err := json.NewEncoder(os.Stderr).Encode(r); err != nil {
		t.Fatal(err)
	}
}

// TestLockedMemory sends as an ordinary user: with none of it to lock everything
// is copied, with little of it small pieces are lent, and nothing hangs.
func TestLockedMemory(t *testing.T) {
	testenv.Root(t)
	for limit, lent := range map[string]bool{"0": false, "64K": true, "1M": true} {
		t.Run(limit, func(t *testing.T) {
			var here unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &here); err != nil {
				t.Fatal(err)
			}
			if limit == "1M" && here.Max < 1<<20 {
				t.Skip("needs a hard limit of locked memory of 1 MiB")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run=^TestStarvedChild$")
			cmd.Env = append(os.Environ(), starvedEnv+"="+limit)
			cmd.Dir = "/"
			// A user of its own: others' locked memory counts.
			uid := uint32(1<<20 + os.Getpid())
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
			}
			var r starved
			if err := json.Unmarshal(stderr.Bytes(), &r); err != nil {
				t.Fatalf("%v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
			}
			if (r.Stats.ZerocopySends > 0) != lent || r.Stats.NoBufferSpace == 0 && !lent {
				t.Errorf("%+v", r.Stats)
			}
			for _, cause := range r.Told {
				if cause != "memlock-limit" {
					t.Errorf("told %q", cause)
				}
			}
			if !lent && len(r.Told) == 0 {
				t.Error("told nothing")
			}
			if r.Stats.NoBufferSpace > map[string]int64{"0": 4, "64K": 200, "1M": 200}[limit] {
				t.Errorf("%d refusals in 40 sends", r.Stats.NoBufferSpace)
			}
		})
	}
}

// TestOptionMemory has room for four completions, and a peer that acknowledges
// nothing for a while: the rest is copied, and nothing is waited for but the peer.
func TestOptionMemory(t *testing.T) {
	sink := newSink(t)
	err := sink.Do(func() error {
		for name, value := range map[string]string{"core/optmem_max": "4096", "ipv4/tcp_wmem": "4096 8388608 16777216"} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("needs a kernel on which net.core.optmem_max is of the network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := sink.Hold(); err != nil {
		t.Fatal(err)
	}
	var release sync.WaitGroup
	release.Go(func() {
		time.Sleep(300 * time.Millisecond)
		if err := sink.Release(); err != nil {
			t.Error(err)
		}
	})
	defer release.Wait() // before the sink is closed
	var causes []string
	s := sinkSender(t, sink, "tcp4", transmit.Options{Threshold: 4096, OnDowngrade: func(d *transmit.Downgrade) { causes = append(causes, d.Cause) }})
	// Sends of more than 512 KiB are not merged into one completion.
	p := make([]byte, 600<<10)
	for i := range 30 {
		c, err := s.Send(t.Context(), p)
		if err != nil || c.Bytes() != int64(len(p)) {
			t.Fatalf("send %d: %d bytes, %v", i, c.Bytes(), err)
		}
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	t.Logf("%+v", st)
	if st.Outstanding != 0 || st.ZerocopySends == 0 || st.NoBufferSpace == 0 || st.NoBufferSpace > 30 {
		t.Errorf("%+v", st)
	}
	if len(causes) != 1 || causes[0] != "optmem-limit" {
		t.Errorf("told %q", causes)
	}
}

// TestNoOptionMemory has room for no completion at all, while nothing limits the
// locked memory: everything is copied, and the right limit is named.
func TestNoOptionMemory(t *testing.T) {
	sink := newSink(t)
	err := sink.Do(func() error { return os.WriteFile("/proc/sys/net/core/optmem_max", []byte("256"), 0o644) })
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("needs a kernel on which net.core.optmem_max is of the network namespace")
	} else if err != nil {
		t.Fatal(err)
	}
	var causes []string
	s := sinkSender(t, sink, "tcp4", transmit.Options{Threshold: 4096, OnDowngrade: func(d *transmit.Downgrade) { causes = append(causes, d.Cause) }})
	p := make([]byte, 64<<10)
	for i := range 4 {
		c, err := s.Send(t.Context(), p)
		if err != nil || c.Bytes() != int64(len(p)) {
			t.Fatalf("send %d: %d bytes, %v", i, c.Bytes(), err)
		}
	}
	if st := s.Stats(); st.ZerocopySends != 0 || st.NoBufferSpace == 0 {
		t.Errorf("%+v", st)
	}
	if len(causes) != 1 || causes[0] != "optmem-limit" {
		t.Errorf("told %q", causes)
	}
}
