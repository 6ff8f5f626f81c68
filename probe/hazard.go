package probe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// judgeHazards says in which ways zero-copy could send wrong data here.
func judgeHazards(f *Facts) []Hazard {
	out := []Hazard{earlyCompletion(f), spliceChecksumLoss(f), sendfileLoss(f)}
	if len(f.Dirs) == 0 {
		for _, id := range []string{"live-source", "stale-source", "truncated-tail"} {
			out = append(out, Hazard{ID: id, Status: Skipped, Detail: noDir, Evidence: []Evidence{}})
		}
	}
	for i := range f.Dirs {
		d := &f.Dirs[i]
		out = append(out, liveSource(d), staleSource(d), truncatedTail(d))
	}
	return out
}

// earlyCompletion: a path-MTU probe completes sends whose data it still points
// to. It is decided by the switch that starts such probes: to provoke one would
// take a lossy path, and the harm depends on what the application does next.
func earlyCompletion(f *Facts) Hazard {
	const name = "net.ipv4.tcp_mtu_probing"
	h := Hazard{ID: "early-completion", Status: Pass, Evidence: []Evidence{},
		Detail: name + " is 0: a completion comes after the data was acknowledged"}
	own, ok := f.Host.Sysctls[name]
	if v, also := f.Limits.Sysctls[name]; !ok && also && f.Limits.PID == 0 {
		own, ok = v, true
	}
	places := []sysctlPlace{{name: name, value: own, known: ok, errno: f.Host.SysctlErrors[name]}}
	if pid := f.Limits.PID; pid != 0 { // perhaps in another network namespace
		v, ok := f.Limits.Sysctls[name]
		places = append(places, sysctlPlace{fmt.Sprintf("%s of pid %d", name, pid), v, ok, "", fmt.Sprintf("nsenter -t %d -n ", pid)})
	}
	for _, p := range places {
		if !p.known {
			h.worsen(Unknown, p.name+" could not be read"+because(strings.Fields(p.errno)), "")
			continue
		}
		h.Evidence = append(h.Evidence, Evidence{p.name, p.value})
		switch n, err := strconv.ParseInt(p.value, 10, 32); {
		case err != nil:
			h.worsen(Unknown, fmt.Sprintf("%s is %q", p.name, p.value), "")
		case n != 0:
			h.worsen(Fail, fmt.Sprintf("%s is %d: completions can come before the data was acknowledged, and a buffer that is reused then corrupts the stream", p.name, n),
				p.enter+"sysctl -w "+name+"=0")
		}
	}
	return h
}

// sysctlPlace is a sysctl of one network namespace.
type sysctlPlace struct {
	name, value string
	known       bool
	errno       string
	enter       string // command that runs another there
}

// worsen replaces the answer by a graver one.
func (h *Hazard) worsen(s CheckStatus, detail, remedy string) {
	if s.rank() > h.Status.rank() {
		h.Status, h.Detail, h.Remedy = s, detail, remedy
	}
}

// hazardOutcome begins a hazard that a trial on loopback decides.
func hazardOutcome(f *Facts, id string) (Hazard, Outcome, bool) {
	h := Hazard{ID: id, Status: Unknown, Evidence: []Evidence{}}
	i := slices.IndexFunc(f.Outcomes, func(o Outcome) bool { return o.ID == "hazard."+id })
	if i < 0 {
		h.Detail = "was not tried"
		return h, Outcome{}, false
	}
	o := f.Outcomes[i]
	for _, s := range o.Steps {
		v := s.Value
		if s.Errno != "" {
			v = s.Errno
		}
		h.Evidence = append(h.Evidence, Evidence{s.Op, v})
	}
	if o.NotTried != "" {
		h.Detail = "was not tried: " + o.NotTried
		return h, o, false
	}
	return h, o, true
}

// spliceChecksumLoss: did datagrams made of odd-sized pieces arrive? Those of
// even pieces are the control.
func spliceChecksumLoss(f *Facts) Hazard {
	h, o, ok := hazardOutcome(f, "udp-splice-csum-loss")
	if !ok {
		return h
	}
	corked, hasCorked := o.Seen["received_corked"]
	odd, hasOdd := o.Seen["received_odd"]
	even, hasEven := o.Seen["received_even"]
	lost := hasCorked && corked == 0 || hasOdd && odd == 0
	switch {
	case lost && (!hasEven || even != 0):
		h.Status = Fail
		h.Detail = "UDP datagrams spliced from odd-sized parts leave with a wrong checksum: the receiver drops them, the sender is told nothing"
		h.Remedy = "splice even offsets and lengths into UDP sockets only, or send with write or MSG_ZEROCOPY"
	case hasEven && even == 0:
		h.Detail = "no spliced datagram arrived over loopback, not even of even-sized parts"
	case hasCorked && hasOdd:
		h.Status, h.Detail = Pass, "UDP datagrams spliced from odd-sized parts arrive"
	default:
		h.Detail = "the trial over loopback did not come to an end" + failedStep(o)
	}
	return h
}

// sendfileLoss: more than a datagram holds must be refused, or arrive.
func sendfileLoss(f *Facts) Hazard {
	h, o, ok := hazardOutcome(f, "udp-sendfile-loss")
	if !ok {
		return h
	}
	returned, has := o.Seen["returned"]
	received, hasReceived := o.Seen["received"]
	switch {
	case has && hasReceived && received < returned:
		h.Status = Fail
		h.Detail = fmt.Sprintf("sendfile of 64 KiB into a UDP socket returned %d bytes and %d arrived", returned, received)
		h.Remedy = "send at most 65507 bytes with one sendfile into a UDP socket"
	case has && hasReceived:
		h.Status, h.Detail = Pass, fmt.Sprintf("sendfile of 64 KiB into a UDP socket returned %d bytes and all arrived", returned)
	case !has && decidingErrno(o) == "EMSGSIZE":
		h.Status, h.Detail = Pass, "sendfile of more than one datagram into a UDP socket is refused with EMSGSIZE"
	default:
		h.Detail = "the trial over loopback did not come to an end" + failedStep(o)
	}
	return h
}

func failedStep(o Outcome) string {
	if errno := decidingErrno(o); errno != "" {
		return ": " + errno
	}
	return ""
}

// dirHazard begins a hazard of a directory, and ends it too where the
// directory could not be looked at.
func dirHazard(d *DirFacts, id string) (h Hazard, done bool) {
	h = Hazard{ID: id, Subject: d.Path, Status: Unknown, Evidence: []Evidence{}}
	if d.Error != "" {
		h.Detail = d.Error
		return h, true
	}
	h.Evidence = append(h.Evidence, Evidence{"mountinfo", fsDescription(d)})
	if fsKindOf(d) == fsPseudo {
		h.Status, h.Detail = Skipped, fsCaution(d)
		return h, true
	}
	if d.FilesLooked > 0 {
		h.Evidence = append(h.Evidence, Evidence{"immutable or verity", fmt.Sprintf("%d of %d files", d.Immutable, d.FilesLooked)})
	}
	return h, false
}

// fixed says why no file of the directory can change, "" if some can.
func (d *DirFacts) fixed() string {
	kind := fsKindOf(d)
	switch {
	case kind == fsReadOnly:
		return fsName(d) + " cannot be written to"
	case kind == fsLocal && superReadOnly(d) && fsName(d) != "overlay": // whose layers may be written to
		return "the file system is mounted read-only"
	case d.FilesSeen > 0 && d.Immutable == d.FilesSeen && !d.More:
		return "all files are immutable or protected by fs-verity"
	}
	return ""
}

func liveSource(d *DirFacts) Hazard {
	h, done := dirHazard(d, "live-source")
	if done {
		return h
	}
	if why := d.fixed(); why != "" {
		h.Status, h.Detail = Pass, "files cannot change while they are sent: "+why
		return h
	}
	h.Status = Warn
	h.Detail = "files can be written to while they are sent: sendfile, splice and mappings send what a file holds when the packet leaves, or a mixture"
	if slices.Contains(d.Options, "ro") {
		h.Detail += "; the mount is read-only, the file system behind it is not"
	}
	h.Remedy = "replace files by rename and never write into one that is served, or chattr +i FILE"
	return h
}

// staleSource: does what is sent keep up with what is written?
func staleSource(d *DirFacts) Hazard {
	h, done := dirHazard(d, "stale-source")
	if done {
		return h
	}
	differ := d.outcome("dir.sendfile").Seen["differ"] + d.outcome("dir.splice").Seen["differ"]
	resend := d.outcome("dir.resend")
	stale, tried := resend.Seen["stale"]
	if tried {
		h.Evidence = append(h.Evidence, Evidence{"file changed and sent again", staleText(stale)})
	}
	const remedy = "serve these files with read and write, not with sendfile, splice or a mapping"
	kind := fsKindOf(d)
	switch {
	case differ > 0:
		h.Status, h.Remedy = Fail, remedy
		h.Detail = "sendfile or splice gives other bytes than read for files there"
	case stale != 0:
		h.Status, h.Remedy = Fail, remedy
		h.Detail = "a file that was changed and sent again came with its old content"
	case kind == fsFUSE || kind == fsShared || kind == fsNetwork:
		h.Status, h.Remedy = Warn, remedy
		h.Detail = fsCaution(d)
		if tried {
			h.Detail += "; changes made on this side do come through"
		}
	case d.fixed() != "":
		h.Status, h.Detail = Pass, "files cannot change: "+d.fixed()
	case kind == fsLocal:
		h.Status, h.Detail = Pass, "on "+fsName(d)+" one page cache serves read, sendfile and mappings"
	default:
		h.Detail = "not known how " + fsName(d) + " keeps the page cache"
		if tried {
			h.Detail += "; changes made on this side come through"
		}
	}
	return h
}

func staleText(stale int64) string {
	if stale != 0 {
		return "old content"
	}
	return "new content"
}

// truncatedTail: a mapping reaches to the end of its last page, whatever
// becomes of the file.
func truncatedTail(d *DirFacts) Hazard {
	h, done := dirHazard(d, "truncated-tail")
	switch why := d.fixed(); {
	case done:
	case why != "":
		h.Status, h.Detail = Pass, "files cannot be cut short while they are sent: "+why
	default:
		h.Status = Warn
		h.Detail = "a mapped file that is cut short while it is sent goes out with zeros in place of its end"
		h.Remedy = "replace files by rename instead of truncating them, or send them with sendfile and check its count"
	}
	return h
}
