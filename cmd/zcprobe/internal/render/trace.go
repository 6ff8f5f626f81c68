package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
)

// Traced is what a trace has shown. Its JSON form is zcprobe/trace/v1.
type Traced struct {
	*ebpf.Summary
	CommandStatus *int `json:"command_status,omitempty"` // of the program that was run; absent if there was none, or it still runs

	Refused []RefusedTier `json:"refused"`

	Hooks []ebpf.Hook `json:"-"`
}

// RefusedTier is one that would have seen more, and why it was not taken.
type RefusedTier struct {
	Tier string `json:"tier"`
	Why  string `json:"why"`
}

// TracedOf is the form of a summary that is printed.
func TracedOf(s *ebpf.Summary, refused []ebpf.Refusal) *Traced {
	t := &Traced{Summary: s, Refused: []RefusedTier{}}
	for _, r := range refused {
		t.Refused = append(t.Refused, RefusedTier{string(r.Tier), r.Err.Error()})
	}
	return t
}

// below is where the text of a cause starts, below its id: behind the longest size.
const below = 14

// mostFlows and mostAdvice are how many a screen holds.
const (
	mostFlows  = 12
	mostAdvice = 8
)

// Trace writes the summary of a trace: the verdict, then why bytes were copied
// and what to do about it, by whom, and what could not be seen.
func Trace(p *text.Printer, t *Traced, how int) {
	tracedVerdict(p, t.Summary)
	if how == Quiet {
		return
	}
	tracedCauses(p, t.Summary, how)
	tracedFlows(p, t.Flows, how)
	tracedAdvice(p, t.Advice, how)
	noticed(p, t.Completions, how)
	unseen(p, t.Summary, how)
	if how == Verbose {
		refusedTiers(p, t.Refused)
		Hooks(p, t.Hooks)
	}
	if t.CommandStatus != nil {
		p.Blank()
		p.Para(0, 2, text.S(ended(*t.CommandStatus)))
	}
}

// TracedSoFar writes in a line what was seen so far.
func TracedSoFar(p *text.Printer, s *ebpf.Summary) { tracedVerdict(p, s) }

// ended says how a program did. Programs that end by themselves can have the status that
// stands for a signal, too: shells do that for what they ran.
func ended(status int) string {
	const signals = 64 // _NSIG
	if n := status - 128; 0 < n && n <= signals {
		return fmt.Sprintf("The program ended with status %d, that of signal %d.", status, n)
	}
	return fmt.Sprintf("The program ended with status %d.", status)
}

// totals are the accounts of all flows.
type totals struct{ bytes, copied, uncopied, unknown, again uint64 }

func add(flows []ebpf.Flow) totals {
	var s totals
	for _, f := range flows {
		s.bytes += f.Bytes
		s.copied += f.CopiedBytes
		s.uncopied += f.ZeroCopiedBytes
		s.unknown += f.UnknownBytes
		s.again += f.RetransmittedData
	}
	return s
}

func tracedVerdict(p *text.Printer, t *ebpf.Summary) {
	s := add(t.Flows)
	if s.bytes == 0 && t.Tier == ebpf.TierNone {
		p.Para(0, 2, text.B("What was sent is not known"), text.S(", after "+elapsed(t.DurationNS)+closely(t)+"."))
		return
	}
	if s.bytes == 0 {
		p.Para(0, 2, text.B("Nothing was sent"), text.S(" by what was watched, in "+elapsed(t.DurationNS)+"."))
		return
	}
	style := text.Bold
	switch {
	case surprising(t.Causes):
		style = text.Caution
	case s.uncopied == s.bytes:
		style = text.Good
	}
	if s.unknown == s.bytes {
		p.Para(0, 2, text.B(fmt.Sprintf("Whether %s that were sent were copied is not known", quantity.Size(s.bytes))), text.S(", after "+elapsed(t.DurationNS)+closely(t)+"."))
		return
	}
	about := ""
	if !t.Exact {
		about = "about "
	}
	head := fmt.Sprintf("Of %s sent, %s%s (%s) were copied", quantity.Size(s.bytes), about, quantity.Size(s.copied), share(s.copied, s.bytes))
	switch {
	case s.copied == s.bytes:
		head = fmt.Sprintf("All of %s sent was copied", quantity.Size(s.bytes))
	case s.uncopied == s.bytes:
		head = fmt.Sprintf("Nothing was copied of %s sent", quantity.Size(s.bytes))
	}
	tail := ""
	if s.copied > 0 && s.uncopied > 0 {
		tail += fmt.Sprintf(", %s were not", quantity.Size(s.uncopied))
	}
	if s.unknown > 0 {
		tail += fmt.Sprintf(", and of %s (%s) it is not known", quantity.Size(s.unknown), share(s.unknown, s.bytes))
	}
	p.Para(0, 2, text.Span{Text: head, Style: style}, text.S(tail+", in "+elapsed(t.DurationNS)+closely(t)+"."))
}

// closely says how it was looked.
func closely(t *ebpf.Summary) string {
	switch {
	case t.Tier == ebpf.TierNone:
		return " (tier none)"
	case !t.Exact && t.SampleEvery < 2:
		return fmt.Sprintf(" (tier %s, most of the time)", t.Tier)
	case !t.Exact:
		return fmt.Sprintf(" (tier %s, a sample: one part of %d)", t.Tier, t.SampleEvery)
	}
	return fmt.Sprintf(" (tier %s, every packet)", t.Tier)
}

// surprising reports whether there is a copy that is not what the call or the
// path is made of.
func surprising(causes []ebpf.CauseTotal) bool {
	return slices.ContainsFunc(causes, func(c ebpf.CauseTotal) bool { return c.Kind == probe.KindCopy && !c.Expected })
}

// share writes n of all as a percentage, 0 % and 100 % only where that is exact.
func share(n, all uint64) string {
	switch {
	case all == 0 || n == 0:
		return "0 %"
	case n >= all:
		return "100 %"
	}
	f := 100 * float64(n) / float64(all)
	switch {
	case f < 1:
		return "under 1 %"
	case f > 99:
		return "over 99 %"
	}
	return fmt.Sprintf("%.0f %%", f)
}

// tracedCauses writes why, by kinds.
func tracedCauses(p *text.Printer, t *ebpf.Summary, how int) {
	for _, kind := range []struct {
		kinds []probe.CauseKind
		head  string
	}{
		{[]probe.CauseKind{probe.KindCopy}, "Why it was copied"},
		{[]probe.CauseKind{probe.KindPass}, "What the CPU read without copying it"},
	} {
		var found []ebpf.CauseTotal
		for _, c := range t.Causes {
			if slices.Contains(kind.kinds, c.Kind) {
				found = append(found, c)
			}
		}
		if len(found) == 0 {
			continue
		}
		p.Blank()
		p.Heading(kind.head)
		for _, c := range found {
			tracedCause(p, t, c, how)
		}
	}
}

func tracedCause(p *text.Printer, t *ebpf.Summary, c ebpf.CauseTotal, how int) {
	style := text.Caution
	if c.Expected {
		style = text.Plain
	}
	size := quantity.Size(c.Bytes)
	head := []text.Span{text.S(size + strings.Repeat(" ", max(below-2-len(size), 2))), {Text: c.ID, Style: style}}
	if c.Expected {
		head = append(head, text.F("  (expected)"))
	}
	p.Line(2, head...)
	entry, known := probe.LookupCause(c.ID)
	if known {
		p.Para(below, below, text.S(entry.Summary))
	}
	if s := where(t.Flows, c.ID); s != "" {
		p.Para(below, below+4, text.F("at: "), text.S(s))
	}
	if known && (!c.Expected || how == Verbose) {
		remedy(p, below, forDevice(entry.Remedy, t.Flows, c.ID))
	}
	p.Line(below, text.F("why: "), text.S("zcprobe explain "+c.ID))
	stacks(p, t.Flows, c.ID, how)
}

// mostStacks is how many stacks of a cause a screen holds.
const mostStacks = 2

// stacks writes where the kernel was when a cause was seen, most often first.
func stacks(p *text.Printer, flows []ebpf.Flow, id string, how int) {
	packets := map[string]uint64{}
	frames := map[string][]string{}
	for _, f := range flows {
		for _, c := range f.Causes {
			if c.ID != id {
				continue
			}
			for _, s := range c.Stack {
				key := strings.Join(s.Frames, "\n")
				packets[key] += s.Packets
				frames[key] = s.Frames
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(packets), func(a, b string) int {
		return cmp.Or(cmp.Compare(packets[b], packets[a]), cmp.Compare(a, b))
	})
	if how < Verbose {
		keys = keys[:min(len(keys), mostStacks)]
	}
	for _, key := range keys {
		p.Line(below, text.F("stack: "), text.S(fmt.Sprintf("%d packets", packets[key])))
		for _, frame := range frames[key] {
			p.Para(below+2, below+4, text.S(frame))
		}
	}
}

// forDevice puts the name of the device into a remedy for any, if there is one device
// and a shell takes its name as it is.
func forDevice(remedy string, flows []ebpf.Flow, id string) string {
	device := ""
	for _, f := range flows {
		for _, c := range f.Causes {
			switch {
			case c.ID != id || c.Device == device:
			case c.Device == "" || device != "" || strings.Trim(c.Device, plain) != "":
				return remedy
			default:
				device = c.Device
			}
		}
	}
	if device == "" {
		return remedy
	}
	return strings.ReplaceAll(remedy, "DEV", device)
}

// plain are the characters that mean nothing to a shell.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// where says at which places a cause was seen, those of most bytes first.
func where(flows []ebpf.Flow, id string) string {
	bytes := map[string]uint64{}
	for _, f := range flows {
		for _, c := range f.Causes {
			if c.ID != id {
				continue
			}
			s := string(c.Mechanism)
			if c.Device != "" {
				s += " on " + c.Device
			}
			bytes[s] += c.Bytes
		}
	}
	places := make([]string, 0, len(bytes))
	for s := range bytes {
		places = append(places, s)
	}
	slices.SortFunc(places, func(a, b string) int { return cmp.Or(cmp.Compare(bytes[b], bytes[a]), cmp.Compare(a, b)) })
	if n := len(places) - 4; n > 0 {
		places = append(places[:4], fmt.Sprintf("%d more", n))
	}
	return strings.Join(places, ", ")
}

func tracedFlows(p *text.Printer, flows []ebpf.Flow, how int) {
	if len(flows) == 0 {
		return
	}
	p.Blank()
	p.Heading("Who sent it")
	listed, shown := flows, flows
	if how < Verbose {
		listed = grouped(flows, mostFlows)
		shown = listed[:min(len(listed), mostFlows)]
	}
	flowTable(p, shown)
	if n := len(listed) - len(shown); n > 0 {
		rest := add(listed[len(shown):])
		p.Line(2, text.S(fmt.Sprintf("and %d more, of %s, %s copied (-v lists them)", n, quantity.Size(rest.bytes), quantity.Size(rest.copied))))
	}
	if how == Verbose {
		flowDetails(p, shown)
	}
	if again := add(flows).again; again > 0 {
		p.Para(2, 2, text.S(quantity.Size(again)+" were sent again, and are not counted above."))
	}
}

func flowTable(p *text.Printer, flows []ebpf.Flow) {
	rows := make([][]text.Span, 0, len(flows))
	for _, f := range flows {
		rows = append(rows, []text.Span{text.S(quantity.Size(f.Bytes)), text.S(copiedShare(f)), text.S(who(f)), text.S(f.API), text.S(f.Device), text.S(peer(f))})
	}
	p.Table(2, []string{"sent", "copied", "process", "call", "over", "to"}, rows)
}

func copiedShare(f ebpf.Flow) string {
	if f.Bytes > 0 && f.UnknownBytes == f.Bytes {
		return "unknown"
	}
	return share(f.CopiedBytes, f.Bytes)
}

func who(f ebpf.Flow) string {
	if f.PID == 0 {
		return "not seen"
	}
	return fmt.Sprintf("%s %d", f.Comm, f.PID)
}

func call(f ebpf.Flow) string {
	if f.FixedBuffers {
		return f.API + " (fixed)"
	}
	return f.API
}

func peer(f ebpf.Flow) string {
	s := cmp.Or(f.Remote, "any")
	if f.Protocol != "tcp" {
		s += " (" + f.Protocol + ")"
	}
	return s
}

func flowDetails(p *text.Printer, flows []ebpf.Flow) {
	for _, f := range flows {
		p.Blank()
		p.Para(2, 4, text.B(who(f)), text.S(" "+call(f)+" to "+peer(f)+" over "+cmp.Or(f.Device, "no device")))
		p.Para(4, 6, text.F(fmt.Sprintf("%d bytes: %d uncopied, %d copied, %d unknown; sent again %d; from %s; uid %d, socket:[%d], cgroup %d, netns %d",
			f.Bytes, f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes, f.RetransmittedData, cmp.Or(f.Local, "any"), f.UID, f.Inode, f.Cgroup, f.NetNS)))
		for _, c := range f.Causes {
			s := fmt.Sprintf("%s: %d bytes in %d packets at %s", c.ID, c.Bytes, c.Packets, c.Mechanism)
			if c.Device != "" {
				s += " on " + c.Device
			}
			p.Para(4, 6, text.S(s))
		}
	}
}

func tracedAdvice(p *text.Printer, advice []ebpf.Advice, how int) {
	if len(advice) == 0 {
		return
	}
	p.Blank()
	p.Heading("What else was seen")
	for i, a := range advice {
		if how < Verbose && i == mostAdvice {
			p.Line(2, text.S(fmt.Sprintf("and %d more (-v lists them)", len(advice)-i)))
			break
		}
		p.Line(2, text.B(a.ID))
		p.Para(4, 4, text.S(a.Text))
		remedy(p, 4, a.Remedy)
		if _, ok := probe.LookupCause(a.ID); ok {
			p.Line(4, text.F("why: "), text.S("zcprobe explain "+a.ID))
		}
		if how == Verbose {
			evidence(p, 4, a.Evidence)
		}
	}
}

// mostNoticed is how many processes with completions a screen holds.
const mostNoticed = 4

// noticed writes how the kernel's completions came back.
func noticed(p *text.Printer, all []ebpf.Completions, how int) {
	if len(all) == 0 {
		return
	}
	p.Blank()
	p.Heading("Completions of MSG_ZEROCOPY")
	for i, c := range all {
		if how < Verbose && i == mostNoticed {
			p.Line(2, text.S(fmt.Sprintf("and %d more (-v lists them)", len(all)-i)))
			break
		}
		s := fmt.Sprintf(": %s of %s", counted(c.Sends, "send"), quantity.Size(c.SentBytes))
		switch {
		case c.Completed > 0 && c.LatencyMedianNS == 0:
			s += fmt.Sprintf(", most completed before the call returned, the last after %s", elapsed(c.LatencyMaxNS))
		case c.Completed > 0:
			s += fmt.Sprintf(", completions after %s typically, %s at most", elapsed(c.LatencyMedianNS), elapsed(c.LatencyMaxNS))
		}
		if c.ReportedCopied > 0 {
			s += fmt.Sprintf("; %d said copied", c.ReportedCopied)
		}
		if c.SmallSends > 0 {
			s += fmt.Sprintf("; %s below 16 KiB", counted(c.SmallSends, "send"))
		}
		if c.Unread > 0 {
			s += fmt.Sprintf("; %s not read, the oldest for %s, with %s of option memory", counted(c.Unread, "completion"), elapsed(c.OldestUnreadNS), quantity.Size(c.OptionMemoryBytes))
		}
		p.Para(2, 4, text.B(fmt.Sprintf("%s %d", c.Comm, c.PID)), text.S(s+"."))
	}
}

func unseen(p *text.Printer, t *ebpf.Summary, how int) {
	if t.LostEvents > 0 {
		p.Blank()
		p.Para(0, 2, text.Span{Text: fmt.Sprintf("%d observations were lost", t.LostEvents), Style: text.Caution}, text.S(": the figures are too low."))
	}
	if len(t.Incomplete) == 0 {
		return
	}
	p.Blank()
	p.Heading("What could not be seen")
	for _, s := range t.Incomplete {
		p.Para(2, 4, text.S("- "+s))
	}
}

func refusedTiers(p *text.Printer, refused []RefusedTier) {
	if len(refused) == 0 {
		return
	}
	p.Blank()
	p.Heading("Why no better tier")
	var rows [][]text.Span
	for _, r := range refused {
		rows = append(rows, []text.Span{text.S(r.Tier), text.S(r.Why)})
	}
	p.Table(2, nil, rows)
}

// Hooks writes what the tracer has attached to, and what not and why.
func Hooks(p *text.Printer, hooks []ebpf.Hook) {
	if len(hooks) == 0 {
		return
	}
	p.Blank()
	p.Heading("Hooks")
	var rows [][]text.Span
	for _, h := range hooks {
		state, say := text.Span{Text: "attached", Style: text.Good}, h.Purpose+"; runs at "+h.Runs
		if !h.Attached {
			state = text.Span{Text: "not attached", Style: text.Caution}
			if h.Err != nil {
				say = h.Err.Error()
			}
			say += "; unseen: " + h.Blind
		}
		rows = append(rows, []text.Span{text.S(h.Name), state, text.S(say)})
	}
	p.Table(2, nil, rows)
}
