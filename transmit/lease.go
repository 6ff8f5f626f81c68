package transmit

import "fmt"

// A SourceChangingError says that a file can change while it is sent, so that what
// arrives may be neither the old nor the new content (explain live-source).
type SourceChangingError struct {
	Name string
	// Reason is one clause.
	Reason string
	// Changed says that it may have changed already since the lease was taken.
	Changed bool
	Err     error // what the kernel answered, or nil
}

// Cause is the id of the catalogue.
func (e *SourceChangingError) Cause() string { return "live-source" }

// Error says why it can change.
func (e *SourceChangingError) Error() string {
	s := fmt.Sprintf("%s can change while it is sent: %s", e.Name, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what the kernel answered.
func (e *SourceChangingError) Unwrap() error { return e.Err }
