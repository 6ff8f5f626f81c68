package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// soakEnv is how long TestSoak goes on, "30m".
const soakEnv = "ZCPROBE_SOAK"

// A state is what a process has of what can leak.
type state struct {
	descriptors, threads, objects, namespaces, goroutines int
	residentKB, lockedKB, pinnedKB                        int
}

func stateOf(t *testing.T, pid int) state {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid)
	count := func(pattern string) int {
		names, err := filepath.Glob(dir + pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s%s: %v", dir, pattern, err)
		}
		return len(names)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) int {
		m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
		if m == nil {
			t.Fatalf("no %s in %s", name, status)
		}
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s := state{descriptors: count("/fd/*"), threads: count("/task/*"), objects: len(objectsOf(t, pid)),
		residentKB: field("VmRSS"), lockedKB: field("VmLck"), pinnedKB: field("VmPin")}
	own := map[string]bool{}
	for _, ns := range namespacesOf(strconv.Itoa(pid)) {
		own[ns] = true
	}
	s.namespaces = len(own)
	if pid == os.Getpid() {
		s.goroutines = runtime.NumGoroutine()
	}
	return s
}

// more says what there is more of than before, with some room for what comes and goes,
// "" if nothing.
func (s state) more(before state) string {
	var out []string
	for _, c := range []struct {
		what               string
		before, now, slack int
	}{
		{"descriptors", before.descriptors, s.descriptors, 8},
		{"threads", before.threads, s.threads, 16}, // the runtime keeps them
		{"BPF objects", before.objects, s.objects, 0},
		{"network namespaces", before.namespaces, s.namespaces, 0},
		{"goroutines", before.goroutines, s.goroutines, 4},
		{"KiB resident", before.residentKB, s.residentKB, 48 << 10},
		{"KiB locked", before.lockedKB, s.lockedKB, 64},
		{"KiB pinned", before.pinnedKB, s.pinnedKB, 64},
	} {
		if c.now > c.before+c.slack {
			out = append(out, fmt.Sprintf("%d %s, %d before", c.now, c.what, c.before))
		}
	}
	return strings.Join(out, "; ")
}

// A churn sends in every way, over connections that come and go, whole and broken.
type churn struct {
	w      *world
	to     string
	file   string
	rounds int
	host   *transmit.Conditions
	sent   int64 // payload that the kernel took
}

var soakWays = []transmit.Backend{"", transmit.Write, transmit.Sendfile, transmit.Splice, transmit.MsgZerocopy, transmit.MmapZerocopy, transmit.ReadWrite}

func (c *churn) round(ctx context.Context) error {
	c.rounds++
	way := soakWays[c.rounds%len(soakWays)]
	src, err := c.source(ctx, way)
	if err != nil {
		return err
	}
	defer src.Close()
	var sent *transfer.Sent
	c.w.ns.Do(func() {
		sent, err = transfer.Send(ctx, transfer.SendOptions{To: transfer.Address{Network: "tcp", Addr: c.to}, Source: src, Backend: way,
			Wait: time.Minute, Conditions: c.conditions})
	})
	if err != nil {
		return fmt.Errorf("%q: %w", way, err)
	}
	c.sent += sent.SentBytes
	return c.broken()
}

func (c *churn) source(ctx context.Context, way transmit.Backend) (transfer.Source, error) {
	if way == transmit.MsgZerocopy || way == transmit.Write {
		return transfer.MemorySource(64<<10, 4), nil
	}
	return transfer.OpenSource(ctx, c.file, rand.Int64N(50_000), -1)
}

// conditions looks at the host every now and then, which must leave nothing either.
func (c *churn) conditions(ctx context.Context, _ net.Addr) (transmit.Conditions, error) {
	if c.host == nil || c.rounds%32 == 0 {
		f, err := probe.Collect(ctx, probe.Options{})
		if err != nil {
			return transmit.Conditions{}, err
		}
		known := transmit.ConditionsOf(probe.Judge(f, probe.Options{}))
		known.Local = new(true)
		c.host = &known
	}
	return *c.host, nil
}

// broken makes a connection that is reset with payload under way, and a device that
// comes and goes.
func (c *churn) broken() error {
	if c.rounds%8 == 0 {
		c.w.ns.Run("ip", "link", "add", "soak0", "type", "veth", "peer", "name", "soak1")
		c.w.ns.Run("ip", "link", "del", "soak0")
	}
	var conn net.Conn
	var err error
	c.w.ns.Do(func() { conn, err = net.Dial("tcp", c.to) })
	if err != nil {
		return err
	}
	n, err := conn.Write(make([]byte, 1+rand.IntN(100_000)))
	if err != nil {
		return err
	}
	c.sent += int64(n)
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	return conn.Close()
}

// TestSoak traces and sends while connections and devices come and go, and looks for
// what grows. ZCPROBE_SOAK=30m makes it long.
func TestSoak(t *testing.T) {
	length := 40 * time.Second
	if s := os.Getenv(soakEnv); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		t.Skip("needs time: -short was given")
	}
	w := newWorld(t)
	last := &lastLine{}
	tracing := w.startTo(last, "trace", "-o", "json", "--exact", "--interval", "1s", "--pid", strconv.Itoa(os.Getpid()))
	w.says(tracing, "tracing")
	c := &churn{w: w, to: w.receive(), file: writeFile(t, random(300_000))}
	// As many flows as a trace may have, at most: those beyond are lost by design.
	pause := max(200*time.Millisecond, length/6000)
	var ours, theirs state
	var next time.Time
	start := time.Now()
	for time.Since(start) < length || c.rounds < 20 {
		if err := c.round(t.Context()); err != nil {
			t.Fatalf("round %d: %v", c.rounds, err)
		}
		time.Sleep(pause)
		switch {
		case c.rounds == 10: // what stays, stays from here on
			runtime.GC()
			ours, theirs = stateOf(t, os.Getpid()), stateOf(t, tracing.Process.Pid)
		case c.rounds > 10 && time.Now().After(next):
			next = time.Now().Add(max(10*time.Second, length/20))
			t.Logf("%v, %d rounds: here %+v, tracer %+v", time.Since(start).Round(time.Second), c.rounds, stateOf(t, os.Getpid()), stateOf(t, tracing.Process.Pid))
		}
	}
	var here, there string
	for range 100 { // pipes and the like are kept for a while
		runtime.GC()
		here, there = stateOf(t, os.Getpid()).more(ours), stateOf(t, tracing.Process.Pid).more(theirs)
		if here == "" && there == "" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if here != "" || there != "" {
		t.Errorf("after %d rounds: here %s; tracer %s", c.rounds, here, there)
	}
	if err := tracing.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	w.finish(tracing, 0)
	c.compare(last)
}

// lastLine keeps the last line of what is written to it.
type lastLine struct{ whole, part []byte }

func (l *lastLine) Write(b []byte) (int, error) {
	l.part = append(l.part, b...)
	if i := bytes.LastIndexByte(l.part, '\n'); i >= 0 {
		l.whole = append(l.whole[:0], l.part[bytes.LastIndexByte(l.part[:i], '\n')+1:i]...)
		l.part = append(l.part[:0], l.part[i+1:]...)
	}
	return len(b), nil
}

// compare looks whether the trace counted what was sent by this process in the
// namespace.
func (c *churn) compare(last *lastLine) {
	var s ebpf.Summary
	if err := json.Unmarshal(last.whole, &s); err != nil {
		c.w.Fatalf("%v: %q", err, last.whole)
	}
	var counted uint64
	for _, f := range s.Flows {
		if f.Remote == c.to && f.PID == os.Getpid() {
			counted += f.Bytes
		}
		if f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
			c.w.Errorf("%+v does not add up", f)
		}
	}
	c.w.Logf("%d rounds, %d bytes sent, %d counted in %d flows, lost %d", c.rounds, c.sent, counted, len(s.Flows), s.LostEvents)
	if counted != uint64(c.sent) && s.LostEvents == 0 {
		c.w.Errorf("%d bytes were counted of %d that were sent, and nothing is said to be lost: %q", counted, c.sent, s.Incomplete)
	}
}
