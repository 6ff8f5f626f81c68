package render

import (
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
)

// TraceLive writes a frame of at most so many lines: what was sent and copied so
// far and since the frame before (nil: there is none), the causes, and the flows
// that copied most.
func TraceLive(p *text.Printer, s, before *ebpf.Summary, lines int) {
	all := add(s.Flows)
	head := fmt.Sprintf("%s  sent %s, copied %s (%s)", elapsed(s.DurationNS), quantity.Size(all.bytes), quantity.Size(all.copied), share(all.copied, all.bytes))
	if all.unknown > 0 {
		head += fmt.Sprintf(", unknown %s", quantity.Size(all.unknown))
	}
	if rate := liveRate(s, before); rate != "" {
		head += "  now " + rate
	}
	oneLine(p, text.B(head))
	var why []string
	for _, c := range s.Causes {
		why = append(why, c.ID+" "+quantity.Size(c.Bytes))
	}
	oneLine(p, text.S(strings.Join(why, ", ")))
	rows := liveRows(s, before)
	rows = rows[:min(len(rows), max(lines-4, 0))]
	if len(rows) == 0 {
		oneLine(p, text.F("Nothing was sent yet. Ctrl-C ends."))
		return
	}
	p.Columns(append([][]text.Span{{text.F("copied"), text.F("sent"), text.F("rate"), text.F("process"), text.F("call"), text.F("why"), text.F("over"), text.F("to")}}, rows...))
	if n := len(s.Flows) - len(rows); n > 0 {
		oneLine(p, text.F(fmt.Sprintf("and %d more. Ctrl-C ends.", n)))
	} else {
		oneLine(p, text.F("Ctrl-C ends."))
	}
}

func oneLine(p *text.Printer, s text.Span) { p.Columns([][]text.Span{{s}}) }

type flowID struct {
	inode uint64
	api   string
	local string
}

func idOf(f ebpf.Flow) flowID { return flowID{f.Inode, f.API, f.Local} }

func liveRows(s, before *ebpf.Summary) [][]text.Span {
	was := map[flowID]uint64{}
	if before != nil {
		for _, f := range before.Flows {
			was[idOf(f)] += f.Bytes
		}
	}
	var rows [][]text.Span
	for _, f := range s.Flows {
		why := ""
		if len(f.Causes) > 0 {
			why = f.Causes[0].ID
		}
		rows = append(rows, []text.Span{
			text.S(copiedSize(f)), text.S(quantity.Size(f.Bytes)), text.S(rate(f.Bytes, was[idOf(f)], s, before)),
			text.S(who(f)), text.S(f.API), text.S(why), text.S(f.Device), text.S(peer(f)),
		})
	}
	return rows
}

func copiedSize(f ebpf.Flow) string {
	if f.Bytes > 0 && f.UnknownBytes == f.Bytes {
		return "unknown"
	}
	return quantity.Size(f.CopiedBytes)
}

func liveRate(s, before *ebpf.Summary) string {
	if before == nil {
		return ""
	}
	return rate(add(s.Flows).bytes, add(before.Flows).bytes, s, before)
}

// rate is what was sent a second since the frame before.
func rate(now, was uint64, s, before *ebpf.Summary) string {
	if before == nil || now < was || s.DurationNS <= before.DurationNS {
		return ""
	}
	return quantity.Size(uint64(float64(now-was)*1e9/float64(s.DurationNS-before.DurationNS))) + "/s"
}
