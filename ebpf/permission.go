package ebpf

import "strings"

// A PermissionError says what a process lacks that may not trace. It matches
// fs.ErrPermission.
type PermissionError struct {
	Needs string // a sentence
	Err   error  // what was refused
}

func (e *PermissionError) Error() string {
	s := strings.TrimSuffix(e.Needs, ".") + " (" + firstLine(e.Err) + ")"
	return strings.ToLower(s[:1]) + s[1:]
}

func (e *PermissionError) Unwrap() error { return e.Err }

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
