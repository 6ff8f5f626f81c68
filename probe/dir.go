package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// judgeDirs makes the features of the directories that files are served from.
func judgeDirs(f *Facts) []Feature {
	var out []Feature
	if len(f.Dirs) == 0 {
		for _, id := range []string{"dir.sendfile", "dir.splice", "reflink", "file.lease"} {
			out = append(out, Feature{ID: id, Status: SkippedFeature, Detail: noDir, Evidence: []Evidence{}})
		}
	}
	for i := range f.Dirs {
		d := &f.Dirs[i]
		out = append(out, dirSend(f, d, "sendfile"), dirSend(f, d, "splice"), dirReflink(d), dirLease(d))
	}
	return out
}

const noDir = "no directory to test in was given (--dir)"

// dirFeature begins a feature, and ends it too where the directory could not
// be looked at.
func dirFeature(d *DirFacts, id string) (f Feature, done bool) {
	f = Feature{ID: id, Subject: d.Path, Evidence: []Evidence{}}
	if d.Error != "" {
		f.Status = UnknownFeature
		if d.Errno == "EACCES" || d.Errno == "EPERM" {
			f.Status = Denied
		}
		f.Detail = d.Error
		return f, true
	}
	f.Evidence = append(f.Evidence, Evidence{"mountinfo", fsDescription(d)})
	return f, false
}

func fsDescription(d *DirFacts) string {
	name := cmp.Or(d.FSType, fmt.Sprintf("statfs magic 0x%x", d.FSMagic))
	if d.Mount == "" {
		return name
	}
	return name + " at " + d.Mount + " " + strings.Join(d.Options, ",")
}

func (d *DirFacts) outcome(id string) Outcome {
	i := slices.IndexFunc(d.Outcomes, func(o Outcome) bool { return o.ID == id })
	if i < 0 {
		return Outcome{ID: id, NotTried: "not tried"}
	}
	return d.Outcomes[i]
}

// dirSend says whether what sendfile or splice gives of the files there is what
// read(2) gives.
func dirSend(f *Facts, d *DirFacts, op string) Feature {
	r, done := dirFeature(d, "dir."+op)
	if done {
		return r
	}
	o := d.outcome(r.ID)
	caution := fsCaution(d)
	if f.Host.Sandbox == "gvisor" {
		caution = "gVisor emulates system calls: " + op + " copies every byte"
	}
	if c := cacheText(d); c != "" {
		r.Evidence = append(r.Evidence, Evidence{d.CacheSource, c})
	}
	seen := func(name string) int64 { return o.Seen[name] }
	tried := seen("equal") + seen("differ") + seen("refused")
	if o.NotTried == "" {
		r.Evidence = append(r.Evidence, Evidence{op, fmt.Sprintf("%d files equal, %d differ, %d refused, %d changed meanwhile; %d bytes",
			seen("equal"), seen("differ"), seen("refused"), seen("changed"), seen("bytes"))})
	}
	switch {
	case seen("differ") > 0:
		r.Status = Unsupported
		r.Detail = fmt.Sprintf("%s gives other bytes than read for %d of %d files", op, seen("differ"), tried)
		r.Remedy = "serve these files with read and write; do not use " + op + " here"
	case seen("refused") > 0 && seen("equal") == 0:
		r.Status, r.Detail = sendRefused(op, decidingErrno(o), tried)
	case seen("refused") > 0:
		r.Status = UnknownFeature
		r.Detail = fmt.Sprintf("%s works for %d of %d files and fails with %s for others", op, seen("equal"), tried, decidingErrno(o))
	case seen("equal") > 0:
		r.Status = Supported
		r.Detail = fmt.Sprintf("%s gives what read gives, tried with %d %s", op, tried, plural(int(tried), "file", "files"))
		if c := cacheText(d); c != "" {
			r.Detail += "; " + c
		}
	case fsKindOf(d) == fsPseudo:
		r.Status, r.Detail, caution = Unsupported, caution, ""
		r.Remedy = "serve these files with read and write"
	default:
		r.Status, r.Detail = UnknownFeature, noFiles(d)
	}
	if caution != "" {
		r.Detail += "; " + caution
	}
	return r
}

// sendRefused judges the errno of a call that failed for every file.
func sendRefused(op, errno string, tried int64) (FeatureStatus, string) {
	detail := fmt.Sprintf("%s fails with %s for %d %s", op, errno, tried, plural(int(tried), "file", "files"))
	switch errno {
	case "EINVAL", "EOPNOTSUPP", "ENOTSUPP", "ESPIPE": // no splice_read in the file system
		return Unsupported, detail
	case "ENOSYS", "EPERM", "EACCES":
		return UnknownFeature, detail + ", which a seccomp filter may answer too"
	}
	return UnknownFeature, detail
}

func noFiles(d *DirFacts) string {
	switch {
	case d.FilesSeen == 0:
		return "no regular file to try it with" + because(d.Errors)
	case d.FilesDenied > 0:
		return fmt.Sprintf("none of %d files could be tried: %d could not be opened", d.FilesSeen, d.FilesDenied)
	case d.FilesTried == 0:
		return fmt.Sprintf("all of %d files are empty", d.FilesSeen)
	}
	return fmt.Sprintf("all of %d files changed or went away while they were read", d.FilesTried) + because(d.Errors)
}

// cacheText says how much of the files is in the page cache.
func cacheText(d *DirFacts) string {
	if d.CacheKnownBytes == 0 {
		return ""
	}
	files := fmt.Sprintf("%d files", d.FilesLooked)
	if d.More || d.FilesSeen > d.FilesLooked {
		files = fmt.Sprintf("the first %d files", d.FilesLooked)
	}
	share := float64(min(d.CacheBytes, d.CacheKnownBytes)) / float64(d.CacheKnownBytes) * 100
	return fmt.Sprintf("%.0f %% of %d bytes of %s are in the page cache", share, d.CacheKnownBytes, files)
}

// decidingErrno is the errno of the last step that failed, "" if none did.
func decidingErrno(o Outcome) string {
	for _, s := range slices.Backward(o.Steps) {
		if s.Errno != "" {
			return s.Errno
		}
	}
	return ""
}

// lastFailed returns the step that ended a test, and whether one did.
func lastFailed(o Outcome) (Step, bool) {
	if n := len(o.Steps); n > 0 && o.Steps[n-1].Errno != "" {
		return o.Steps[n-1], true
	}
	return Step{}, false
}

// dirTest begins a feature that takes a temporary file.
func dirTest(d *DirFacts, id string) (f Feature, o Outcome, done bool) {
	f, done = dirFeature(d, id)
	if done {
		return f, o, true
	}
	o = d.outcome(id)
	if o.NotTried != "" {
		f.Status, f.Detail = SkippedFeature, o.NotTried
		return f, o, true
	}
	for _, s := range o.Steps {
		f.Evidence = append(f.Evidence, Evidence{s.Op, cmp.Or(s.Errno, "ok")})
	}
	return f, o, false
}

// noTemporary judges a test that ended before it began: there was no file.
func noTemporary(f *Feature, s Step) bool {
	switch s.Op {
	case "open O_TMPFILE", "openat O_CREAT", "unlinkat", "write", "open O_RDONLY", "open O_WRONLY":
	default:
		return false
	}
	f.Status = UnknownFeature
	f.Detail = "no temporary file could be made there: " + s.Op + " " + s.Errno
	if s.Errno == "EACCES" || s.Errno == "EPERM" {
		f.Status = Denied
	}
	return true
}

func dirReflink(d *DirFacts) Feature {
	f, o, done := dirTest(d, "reflink")
	if done {
		return f
	}
	s, failed := lastFailed(o)
	switch {
	case !failed && o.Seen["equal"] == 1:
		f.Status, f.Detail = Supported, "files can share their blocks: a copy within "+fsName(d)+" moves no data"
	case !failed:
		f.Status, f.Detail = Unsupported, "FICLONE succeeds and the clone has other content"
	case noTemporary(&f, s):
	case s.Op == "ioctl FICLONE" && slices.Contains([]string{"EOPNOTSUPP", "ENOTSUPP", "ENOTTY"}, s.Errno):
		f.Status, f.Detail = Unsupported, fsName(d)+" cannot share blocks between files ("+s.Errno+"): copies move all data"
	default:
		f.Status, f.Detail = UnknownFeature, s.Op+" fails with "+s.Errno
	}
	return f
}

func dirLease(d *DirFacts) Feature {
	f, o, done := dirTest(d, "file.lease")
	if done {
		return f
	}
	s, failed := lastFailed(o)
	switch {
	case !failed && o.Seen["held"] == 1:
		f.Status, f.Detail = Supported, "a read lease tells before another process on this host opens a file for writing"
		if k := fsKindOf(d); k == fsNetwork || k == fsShared || k == fsFUSE {
			f.Detail += "; of changes made elsewhere it does not tell"
		}
	case !failed:
		f.Status, f.Detail = Unsupported, "F_SETLEASE succeeds and F_GETLEASE knows of no lease"
	case noTemporary(&f, s):
	case slices.Contains([]string{"EINVAL", "EOPNOTSUPP", "ENOTSUPP", "ENOSYS"}, s.Errno):
		f.Status, f.Detail = Unsupported, "no leases on "+fsName(d)+" ("+s.Errno+")"
	default: // EAGAIN: somebody has it open, which cannot be for a file without a name
		f.Status, f.Detail = UnknownFeature, s.Op+" fails with "+s.Errno
	}
	return f
}
