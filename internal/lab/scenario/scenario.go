package scenario

import (
	"fmt"
	"math"
	"strings"
)

// A Scenario is a transfer of which the truth is known. Its fields are those of the
// files that [Read] reads; what has no omitzero must be there.
type Scenario struct {
	// ID is the set-up and the API, "no-sg/sendfile".
	ID string `json:"id"`
	// Summary is the set-up in a few words.
	Summary string  `json:"summary"`
	SetUp   Steps   `json:"set_up"`
	Traffic Traffic `json:"traffic"`
	// Truths have ranges of kernels that do not overlap. A kernel in none of them
	// skips the scenario.
	Truths []Truth `json:"truths"`

	// Unpredicted says why package probe cannot foresee what happens here, in a
	// sentence; "" where it must.
	Unpredicted string `json:"unpredicted,omitzero"`
	// Unobserved says why package ebpf cannot see what happens here, in a sentence;
	// "" where it must.
	Unobserved string `json:"unobserved,omitzero"`
	// Blind are the tiers of package ebpf that Unobserved is about; nil: all of them.
	Blind []string `json:"blind_tiers,omitzero"`
}

// Traffic is what is sent.
type Traffic struct {
	// API is a word of the output format: "write", "writev", "sendfile", "splice",
	// "vmsplice", "msg_zerocopy", "io_uring_send", "io_uring_send_zc", "copy_file_range";
	// or of package transmit, "mmap_zerocopy", "read_write".
	API      string `json:"api"`
	Protocol string `json:"protocol"` // "tcp", "udp", "unix" or "file"
	// IPv6 sends to the IPv6 address of the place.
	IPv6 bool `json:"ipv6,omitzero"`
	// Source is where the payload lies; "" is memory, or for sendfile, splice and
	// mmap_zerocopy a memfd.
	Source Source `json:"source,omitzero"`
	Size   int    `json:"size_bytes"` // of one send
	Count  int    `json:"count"`      // sends

	Segment int `json:"segment_bytes,omitzero"` // UDP_SEGMENT: of one datagram of a send; 0: each send is one
	Cork    int `json:"cork_sends,omitzero"`    // UDP_CORK: sends that make one datagram; 0: none

	// Parts is how many pieces of memory make one send; 0 is one.
	Parts int `json:"parts,omitzero"`
	// Registered memory is known to the ring before it is sent.
	Registered bool `json:"registered,omitzero"`
	// Socket says how the socket differs from one as it is made.
	Socket Socket `json:"socket,omitzero"`

	// Raw makes msg_zerocopy, sendfile, splice and vmsplice by system calls of the lab's own. Package
	// transmit does not do what the kernel is known to do wrongly, or in vain.
	Raw bool `json:"raw,omitzero"`
}

// Bytes is how much is sent.
func (t Traffic) Bytes() uint64 { return uint64(t.Size) * uint64(t.Count) }

// String says what is sent.
func (t Traffic) String() string {
	s := fmt.Sprintf("%d times %d bytes by %s over %s", t.Count, t.Size, t.API, strings.ToUpper(t.Protocol))
	if t.IPv6 {
		s += " and IPv6"
	}
	switch {
	case t.Segment > 0:
		s += fmt.Sprintf(" in datagrams of %d", t.Segment)
	case t.Cork > 0:
		s += fmt.Sprintf(", %d of them a datagram", t.Cork)
	}
	if t.Source != "" {
		s += " from " + t.Source.String()
	}
	return s + t.Socket.String()
}

// Truth is what becomes of the payload on a range of kernels.
type Truth struct {
	// Since and Before bound the range, "6.13": the first kernel of it, and the first
	// after it. "" is no bound.
	Since  string `json:"since,omitzero"`
	Before string `json:"before,omitzero"`

	// Copied is the share of the payload that the CPU copies on this machine, the
	// receiver's recv not counted.
	Copied float64 `json:"copied"`
	// Most is a share that is larger, where how much is copied differs between builds of
	// a kernel: it is from Copied to Most. 0: it is Copied.
	Most float64 `json:"copied_at_most,omitzero"`
	// Causes are the ids of all causes of kind copy or pass, sorted.
	Causes []string `json:"causes"`
	// Refused is the id of what makes the kernel refuse the API, so that the sender
	// goes on by writing; "" where it takes it.
	Refused string `json:"refused,omitzero"`
	// Why says how this is known, in a sentence.
	Why string `json:"why"`
}

// bytes is how much of what was sent is copied, at least.
func (t Truth) bytes(sent uint64) uint64 { return share(t.Copied, sent) }

// most is how much of what was sent is copied, at most.
func (t Truth) most(sent uint64) uint64 { return share(max(t.Copied, t.Most), sent) }

func share(of float64, sent uint64) uint64 { return uint64(math.Round(of * float64(sent))) }

// Shares of the payload.
const (
	None = 0.0
	All  = 1.0
)

// truth returns what is true on a kernel.
func (s *Scenario) truth(kernel string) (Truth, error) {
	k, err := parseVersion(kernel)
	if err != nil {
		return Truth{}, err
	}
	for _, t := range s.Truths {
		in, err := t.holds(k)
		if err != nil {
			return Truth{}, fmt.Errorf("scenario %s: %w", s.ID, err)
		}
		if in {
			return t, nil
		}
	}
	return Truth{}, fmt.Errorf("no truth is known for kernel %s", kernel)
}

func (t Truth) holds(k version) (bool, error) {
	if t.Since != "" {
		since, err := parseVersion(t.Since)
		if err != nil || k.before(since) {
			return false, err
		}
	}
	if t.Before != "" {
		before, err := parseVersion(t.Before)
		if err != nil || !k.before(before) {
			return false, err
		}
	}
	return true, nil
}

// version is of a kernel, as far as it decides what is true.
type version struct{ major, minor int }

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// parseVersion reads the beginning of a release, "6.18.44-fc".
func parseVersion(release string) (v version, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &v.major, &v.minor); err != nil {
		return v, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return v, nil
}
