package transmit

import "fmt"

// Reported is what the kernel's completions said of the payload. It is no proof:
// without scatter-gather the kernel copies and reports nothing of it, and when it
// merges completions it keeps the word of the first.
type Reported uint8

// What completions say.
const (
	NotReported Reported = iota // the backend has no completions, or none came yet
	Uncopied                    // all say not copied
	Copied                      // all say copied
	Mixed                       // some say copied
)

// String returns the word that reports use.
func (r Reported) String() string {
	switch r {
	case Uncopied:
		return "not copied"
	case Copied:
		return "copied"
	case Mixed:
		return "partly copied"
	}
	return "not reported"
}

// Result says which way a transfer went.
type Result struct {
	// Bytes is how many bytes the kernel took, in order and once. With an error it
	// is how far the transfer got.
	Bytes int64
	// Backend moved them; where several did, it is the one that moved most.
	Backend Backend
	// PlainBytes is how many of Bytes the calls themselves copied: pieces below
	// the threshold, and what went by a backend that copies.
	PlainBytes int64
	// SharedBytes is how many of Bytes [CopyFile] made share their blocks with the
	// source. copy_file_range may share more of them, and does not say.
	SharedBytes int64
	// HoleBytes is how many of Bytes CopyFile left out, as the source has holes there
	// and the target reads as zeros.
	HoleBytes int64
	// Reported is what the kernel said of the rest.
	Reported Reported
	// Cause is the catalogue id of what kept the transfer from the way that was
	// planned, "" if nothing did.
	Cause string
}

// A Downgrade says that a connection goes on by a lesser way than planned. It is
// told once for each reason, and is an error: what the kernel said is wrapped, so
// that errors.Is finds errors.ErrUnsupported, fs.ErrPermission and errnos.
type Downgrade struct {
	From, To Backend
	Cause    string // catalogue id, or ""
	Reason   string // one clause
	Err      error  // what the kernel answered; nil if nothing failed
}

// Error says what happened.
func (d *Downgrade) Error() string {
	s := d.Reason
	if d.From != d.To {
		s = fmt.Sprintf("%s instead of %s: %s", d.To, d.From, d.Reason)
	}
	if d.Err != nil {
		s += ": " + d.Err.Error()
	}
	return s
}

// Unwrap returns what the kernel answered.
func (d *Downgrade) Unwrap() error { return d.Err }

// A TruncatedError says that a file ended before the range that was to be sent:
// it was made shorter meanwhile, or the range was beyond its end.
type TruncatedError struct {
	Sent int64 // bytes of the range that went out
	Want int64 // bytes of the range
	// ZeroBytes is how many of Sent, at their end, are beyond the end of the file
	// now and may have gone out as zeros (explain truncated-tail). Only a mapped
	// file sends them.
	ZeroBytes int64
}

// Error says how far it got.
func (e *TruncatedError) Error() string {
	s := fmt.Sprintf("the file ended %d bytes into a range of %d", e.Sent-e.ZeroBytes, e.Want)
	if e.ZeroBytes > 0 {
		s += fmt.Sprintf("; %d bytes after its end were sent as zeros", e.ZeroBytes)
	}
	return s
}
