package ebpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// Schema names the format of a Summary.
const Schema = "zcprobe/trace/v1"

// A Summary is what a trace has shown.
type Summary struct {
	Schema      string       `json:"schema"`
	Type        string       `json:"type"` // "summary"
	Tier        Tier         `json:"tier"`
	Exact       bool         `json:"exact"`
	SampleEvery int          `json:"sample_every"` // 1: every packet was looked at
	DurationNS  int64        `json:"duration_ns"`
	LostEvents  uint64       `json:"lost_events"`
	Incomplete  []string     `json:"incomplete"` // what could not be seen, a sentence each
	Flows       []Flow       `json:"flows"`      // by copied bytes, most first
	Causes      []CauseTotal `json:"causes"`     // by bytes, most first
	Advice      []Advice     `json:"advice"`

	// CallsWatchedNS is for how long calls of programs were looked at, which is
	// what most of Advice is from. Of what they did otherwise nothing is known.
	CallsWatchedNS int64         `json:"calls_watched_ns"`
	Completions    []Completions `json:"completions"` // of MSG_ZEROCOPY
}

// A Flow is what one socket sent by one API. Bytes are those that the kernel
// accepted, each once: Bytes = ZeroCopied + Copied + Unknown. A byte that was
// copied twice is copied once; causes may overlap.
type Flow struct {
	PID               int     `json:"pid"`
	Comm              string  `json:"comm"`
	API               string  `json:"api"`
	FixedBuffers      bool    `json:"fixed_buffers,omitzero"`
	Protocol          string  `json:"protocol"`
	Local             string  `json:"local"` // empty, as Inode is 0, for connections that are told of together
	Remote            string  `json:"remote"`
	Device            string  `json:"device"` // the first that most of it went to
	Bytes             uint64  `json:"bytes"`
	ZeroCopiedBytes   uint64  `json:"zero_copied_bytes"`
	CopiedBytes       uint64  `json:"copied_bytes"`
	UnknownBytes      uint64  `json:"unknown_bytes"`
	RetransmittedData uint64  `json:"retransmitted_bytes"` // not in Bytes
	Causes            []Cause `json:"causes"`
	Inode             uint64  `json:"inode"` // of the socket
	UID               uint32  `json:"uid"`
	Cgroup            uint64  `json:"cgroup"`
	NetNS             uint32  `json:"netns"`
}

// A Cause is why payload of a flow was copied, or read by the CPU.
type Cause struct {
	ID        string          `json:"id"` // of the catalogue, see probe.LookupCause
	Kind      probe.CauseKind `json:"kind"`
	Mechanism probe.Mechanism `json:"mechanism"`
	Bytes     uint64          `json:"bytes"`
	Packets   uint64          `json:"packets"`
	Device    string          `json:"device"` // empty where no device is to blame
	Expected  bool            `json:"expected"`

	// Stack is where the kernel was when the cause was seen, most often first. The
	// tier of tracepoints sees that payload was copied when it comes to the next
	// place it looks at: the stack is of there, not of the copy.
	Stack []Stack `json:"stack,omitzero"`

	stacks map[uint32]uint64 // packets by observation.stack
}

// A Stack is a stack of the kernel.
type Stack struct {
	Packets uint64   `json:"packets"` // that were seen with it
	Frames  []string `json:"frames"`  // function and offset, the innermost first
}

// mostStacks is how many stacks of one cause are told.
const mostStacks = 4

// A CauseTotal is one cause over all flows.
type CauseTotal struct {
	ID       string          `json:"id"`
	Kind     probe.CauseKind `json:"kind"`
	Bytes    uint64          `json:"bytes"`
	Packets  uint64          `json:"packets"`
	Expected bool            `json:"expected"`
}

// judge fills in what the observations amount to.
func (s *Summary) judge(all *observations, hooks []Hook) {
	var stray int
	s.Flows, stray = withoutStrays(summarize(all))
	s.Causes = total(s.Flows)
	if s.Flows == nil {
		s.Flows = []Flow{}
	}
	if s.Causes == nil {
		s.Causes = []CauseTotal{}
	}
	for i := range s.Flows {
		for j := range s.Flows[i].Causes {
			s.Flows[i].Causes[j].show(all.stacks)
		}
	}
	if of := all.sampled; of.windows > 0 {
		s.Exact = false
		s.SampleEvery = of.every(time.Duration(s.DurationNS))
	}
	s.LostEvents = all.losses.Sockets + all.losses.Counters + all.losses.Missed
	s.Incomplete = append(all.sampled.incomplete(time.Duration(s.DurationNS)), incomplete(all.losses, all.skipped, s.Tier, hooks)...)
	if stray > 0 {
		s.Incomplete = append(s.Incomplete, fmt.Sprintf("payload of %d sockets came to a device, and the call that sent it was not seen", stray))
	}
}

// withoutStrays leaves out flows of which nothing was seen being sent: what they
// show belongs to other calls, and nothing tells to which.
func withoutStrays(flows []Flow) (kept []Flow, sockets int) {
	stray := map[uint64]bool{}
	kept = slices.DeleteFunc(flows, func(f Flow) bool {
		if f.Bytes == 0 {
			stray[f.Inode] = true
		}
		return f.Bytes == 0
	})
	return kept, len(stray)
}

// show names what the stacks of a cause are of.
func (c *Cause) show(frames map[uint32][]string) {
	for id, n := range c.stacks {
		if len(frames[id]) > 0 {
			c.Stack = append(c.Stack, Stack{Packets: n, Frames: frames[id]})
		}
	}
	slices.SortFunc(c.Stack, func(a, b Stack) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), slices.Compare(a.Frames, b.Frames))
	})
	c.Stack = c.Stack[:min(len(c.Stack), mostStacks)]
}

// incomplete says what is missing from the figures.
func incomplete(l Losses, skipped skips, tier Tier, hooks []Hook) []string {
	out := []string{}
	for _, h := range hooks {
		if !h.Attached && !errors.Is(h.Err, errNotTried) {
			out = append(out, fmt.Sprintf("not seen without %s: %s", h.Name, h.Blind))
		}
	}
	for _, missing := range []struct {
		n    uint64
		text string
	}{
		{l.Sockets, "sends of sockets for which there was no room"},
		{l.Counters, "observations for which there was no room"},
		{l.Flights, "packets that were under way on this machine, forgotten to make room"},
		{l.Stacks, "stacks for which there was no room"},
		{l.Bases, "connections for which there was no room between samples"},
		{l.Unparsed, "packets whose headers were not understood"},
		{l.Missed, "times that a hook was skipped, because a program was at work on its CPU already: " + skipped.String()},
		{l.Frags, "packets of more fragments than are looked at"},
	} {
		if missing.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", missing.n, missing.text))
		}
	}
	for _, b := range blind(tier) {
		out = append(out, "this tier does not see "+b)
	}
	return out
}
