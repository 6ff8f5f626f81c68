package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// Sent writes what became of a send: how much went, how fast and by which way,
// then what was copied as far as anyone can tell.
func Sent(p *text.Printer, r *transfer.Sent, how int) {
	if r.DryRun {
		wouldSend(p, r, how)
		return
	}
	p.Para(0, 2, sentVerdict(r)...)
	if how == Quiet || r.Remote == "" {
		return
	}
	p.Blank()
	rows := [][]text.Span{row("way", planned(r))}
	for _, w := range r.Ways {
		if len(r.Ways) > 1 {
			rows = append(rows, row("", fmt.Sprintf("%s: %s", w.Backend, octets(w.Bytes))))
		}
	}
	for _, d := range r.Downgrades {
		rows = append(rows, downgrade(d)...)
	}
	rows = append(rows, row("copied", octets(r.CopiedByCallsBytes)+" by the calls"))
	rows = append(rows, row("reported", completions(r)))
	rows = append(rows, acknowledged(r)...)
	for _, n := range r.Selection.Notes {
		rows = append(rows, row("note", n.Text+explained(n.Cause)))
	}
	if r.SourceChanged {
		rows = append(rows, row("changed", "the file was changed while it was sent: the peer may have a mixture"+explained("live-source")))
	}
	rows = append(rows, checksum(r.SHA256, r.Checksum)...)
	p.Table(2, nil, rows)
	if how == Verbose {
		rejected(p, r)
		decided(p, r.Selection.Evidence)
	}
}

func row(label, s string) []text.Span { return []text.Span{text.F(label), text.S(s)} }

func octets(n int64) string { return quantity.Size(uint64(max(n, 0))) }

func sentVerdict(r *transfer.Sent) []text.Span {
	head, amount := text.Span{Text: "Sent", Style: text.Good}, " "+octets(r.SentBytes)
	if !r.Complete {
		head = text.Span{Text: "Stopped", Style: text.Bad}
		amount = " after " + octets(r.SentBytes)
		if n := r.Source.LengthBytes; n != nil {
			amount += " of " + octets(*n)
		}
	}
	s := fmt.Sprintf("%s to %s%s", amount, r.To, speed(r.DurationNS, r.RateBytesPerS))
	if r.Backend != "" {
		s += " by " + r.Backend
	}
	switch {
	case r.SentBytes == 0:
	case r.CopiedByCallsBytes == 0:
		s += "; the calls copied nothing"
	case r.CopiedByCallsBytes >= r.SentBytes:
		s += "; the calls copied all of it"
	default:
		s += fmt.Sprintf("; the calls copied %s of it", octets(r.CopiedByCallsBytes))
	}
	s += later(r.Reported)
	return []text.Span{head, text.S(s + ".")}
}

// later says what completions tell of copies that the calls did not make.
func later(reported string) string {
	switch reported {
	case transmit.Copied.String():
		return ", and the kernel reports that it copied what was lent later"
	case transmit.Mixed.String():
		return ", and the kernel reports that it copied some of what was lent later"
	case transmit.Uncopied.String():
		return ", and the kernel reports no copy of what was lent"
	}
	return ""
}

func speed(ns, rate int64) string {
	if ns <= 0 {
		return ""
	}
	return fmt.Sprintf(" in %s (%s/s)", elapsed(ns), octets(rate))
}

// elapsed writes a time with three digits or so.
func elapsed(ns int64) string {
	d := time.Duration(ns)
	for unit := time.Second; unit > time.Nanosecond; unit /= 1000 {
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.String()
}

func planned(r *transfer.Sent) string {
	s := r.Selection.Backend
	if reason := r.Selection.Reason; reason != "" {
		s += ": " + reason
	}
	return s
}

func downgrade(d transfer.Downgrade) [][]text.Span {
	s := fmt.Sprintf("%s instead of %s: %s", d.To, d.From, d.Reason)
	if d.Error != "" {
		s += " (" + d.Error + ")"
	}
	return [][]text.Span{row("downgrade", s+explained(d.Cause))}
}

func explained(cause string) string {
	if cause == "" {
		return ""
	}
	return " (zcprobe explain " + cause + ")"
}

// completions says what the kernel's completions said, and what that is worth.
func completions(r *transfer.Sent) string {
	if r.ZerocopySends == 0 {
		return "nothing: this way has no completions"
	}
	s := fmt.Sprintf("%s, by the completions of %d sends that lent memory", r.Reported, r.NotifiedSends)
	if missing := r.ZerocopySends - r.NotifiedSends; missing > 0 {
		s += fmt.Sprintf("; of %d more none came", missing)
	}
	if r.CopiedSends > 0 {
		s += fmt.Sprintf("; %d said copied", r.CopiedSends)
	} else {
		s += "; that is the kernel's word and no proof"
	}
	return s
}

func acknowledged(r *transfer.Sent) [][]text.Span {
	var rows [][]text.Span
	switch n := r.AcknowledgedBytes; {
	case r.Protocol == "udp":
		s := "nothing: UDP does not tell what arrives"
		if r.Datagrams != nil && r.DatagramBytes != nil {
			s = fmt.Sprintf("nothing, of %d datagrams of %d bytes: UDP does not tell what arrives", *r.Datagrams, *r.DatagramBytes)
		}
		rows = append(rows, row("acknowledged", s))
	case n == nil:
		rows = append(rows, row("acknowledged", "not known"))
	case *n < r.SentBytes:
		rows = append(rows, row("acknowledged", fmt.Sprintf("%s; %d bytes are not", octets(*n), r.SentBytes-*n)))
	case r.Protocol == "unix":
		rows = append(rows, row("acknowledged", "all: the peer has read it"))
	default:
		rows = append(rows, row("acknowledged", "all, by the peer's kernel; whether the peer read it TCP does not tell"))
	}
	if r.AbandonedBytes > 0 {
		rows = append(rows, row("abandoned", octets(r.AbandonedBytes)+" of memory that the kernel still held at the end"))
	}
	return rows
}

func checksum(sum *string, what string) [][]text.Span {
	if sum == nil {
		if what == "" {
			what = "none: the transfer is not complete"
		}
		return [][]text.Span{row("sha256", what)}
	}
	return [][]text.Span{row("sha256", *sum), row("", what)}
}

func rejected(p *text.Printer, r *transfer.Sent) {
	if len(r.Selection.Rejected) == 0 {
		return
	}
	p.Blank()
	p.Heading("Why not otherwise")
	var rows [][]text.Span
	for _, x := range r.Selection.Rejected {
		s := x.Reason
		if len(x.Causes) > 0 {
			s += explained(x.Causes[0])
		}
		rows = append(rows, []text.Span{text.S(x.Backend), text.S(s)})
	}
	p.Table(2, nil, rows)
}

// decided writes what the choice goes by.
func decided(p *text.Printer, es []probe.Evidence) {
	if len(es) == 0 {
		return
	}
	p.Blank()
	p.Heading("Evidence")
	evidence(p, 2, es)
}

func wouldSend(p *text.Printer, r *transfer.Sent, how int) {
	what := "what " + source(r) + " gives"
	if n := r.Source.LengthBytes; n != nil {
		what = fmt.Sprintf("%d bytes of %s", *n, source(r))
		if r.Source.OffsetBytes > 0 {
			what += fmt.Sprintf(" from offset %d on", r.Source.OffsetBytes)
		}
	}
	p.Para(0, 2, text.S(fmt.Sprintf("Would connect to %s (%s) and send %s by %s.", r.To, r.Protocol, what, r.Selection.Backend)))
	if how == Quiet {
		return
	}
	p.Blank()
	rows := [][]text.Span{row("why", r.Selection.Reason)}
	for _, n := range r.Selection.Notes {
		rows = append(rows, row("note", n.Text+explained(n.Cause)))
	}
	p.Table(2, nil, rows)
	if how == Verbose {
		rejected(p, r)
		decided(p, r.Selection.Evidence)
	}
}

func source(r *transfer.Sent) string {
	switch {
	case r.Source.Kind == "memory":
		return "generated memory"
	case r.Source.Name == transfer.Stdio:
		return "standard input"
	}
	return r.Source.Name
}

// Received writes what became of a connection.
func Received(p *text.Printer, r *transfer.Received, how int) {
	head := text.Span{Text: "Received", Style: text.Good}
	amount := " " + octets(r.ReceivedBytes)
	if !r.Complete {
		head = text.Span{Text: "Stopped", Style: text.Bad}
		amount = " after " + octets(r.ReceivedBytes)
	}
	s := amount
	if r.Peer != "" {
		s += " from " + r.Peer
	}
	p.Para(0, 2, head, text.S(s+speed(r.DurationNS, r.RateBytesPerS)+kept(r)+"."))
	if how == Quiet {
		return
	}
	p.Blank()
	rows := [][]text.Span{row("way", receivedBy(r))}
	for _, d := range r.Downgrades {
		rows = append(rows, downgrade(d)...)
	}
	if r.Datagrams != nil {
		rows = append(rows, row("datagrams", datagrams(r)))
	}
	rows = append(rows, checksum(r.SHA256, r.Checksum)...)
	if r.FileSHA256 != nil {
		rows = append(rows, row("", *r.FileSHA256), row("", "of the whole file, with what it had before"))
	}
	p.Table(2, nil, rows)
}

func kept(r *transfer.Received) string {
	switch {
	case r.Out.Kind == "discard":
		return ", and kept nothing"
	case r.Out.Kind == "file" && r.Out.Resume:
		return fmt.Sprintf("; %s has %d bytes now", r.Out.Name, r.Out.OffsetBytes+r.ReceivedBytes)
	case r.Out.Kind == "file" && !r.Complete:
		return "; there is no " + r.Out.Name + " of it"
	case r.Out.Name == transfer.Stdio:
		return ", to standard output"
	}
	return ", into " + r.Out.Name
}

func receivedBy(r *transfer.Received) string {
	if r.ReceivedBytes == 0 {
		return "nothing came"
	}
	switch r.Way {
	case "read":
		return "read: every byte came into the process"
	case "read_write":
		return "read_write: every byte came into the process and was written from there"
	case "splice":
		return "splice: no byte came into the process"
	case "discard":
		return "discard: the kernel dropped every byte without copying it (MSG_TRUNC)"
	}
	return r.Way
}

func datagrams(r *transfer.Received) string {
	s := []string{fmt.Sprintf("%d", *r.Datagrams)}
	switch {
	case r.Dropped == nil:
		s = append(s, "how many found no room is not known")
	case *r.Dropped > 0:
		s = append(s, fmt.Sprintf("%d more found no room in the socket and are lost", *r.Dropped))
	}
	if r.Foreign != nil && *r.Foreign > 0 {
		s = append(s, fmt.Sprintf("%d from other senders were ignored", *r.Foreign))
	}
	if r.EndedBy == "idle" {
		s = append(s, "ended by silence")
	}
	return strings.Join(s, "; ")
}

// WouldReceive says, for --dry-run, what recv would do.
func WouldReceive(p *text.Printer, r *transfer.Received) {
	s := "discard what arrives"
	switch {
	case r.Out.Kind == "discard":
	case r.Out.Name == transfer.Stdio:
		s = "write what arrives to standard output"
	case r.Out.Resume:
		s = fmt.Sprintf("go on writing %s at offset %d", r.Out.Name, r.Out.OffsetBytes)
	default:
		s = "write what arrives to " + r.Out.Name
	}
	p.Para(0, 2, text.S(fmt.Sprintf("Would listen on %s (%s) and %s.", r.Local, r.Protocol, s)))
}
