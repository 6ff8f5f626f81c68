// Package wire is what the guest harness and the first process of a guest say
// to each other: a plan on the way in, frames on the way out. Tests only.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// PlanFile is where the plan lies in the guest.
const PlanFile = "/guest/plan.json"

// ModuleDir holds, in the guest, the uncompressed modules that can be loaded,
// as NAME.ko.
const ModuleDir = "/guest/modules"

// Plan is what the guest's first process does.
type Plan struct {
	Modules  []string            // names below ModuleDir, loaded in this order before the steps
	Loadable map[string][]string // what the kernel may ask modprobe for, and the modules that gives, in order
	NICs     []NIC
	Env      []string // of every step
	Steps    []Step
	Collect  []string // files and directories sent back after the steps
}

// NIC is a device the guest was made with, and the address it gets.
type NIC struct {
	MAC  string
	Addr string // IPv4, in a network of 24 bits; "" for none
}

// Step is one program run in the guest.
type Step struct {
	Args []string // the program and its arguments
	Env  []string // added to the plan's
	UID  int      // user and group; 0 keeps all capabilities

	// Without names mounted file systems, "/proc" say, that are hidden from
	// the step, and ReadOnly makes every other one read-only for it.
	Without  []string
	ReadOnly bool

	Memlock *uint64 // RLIMIT_MEMLOCK, soft and hard, in bytes; nil leaves it
	Dir     string  // working directory, "/" if empty
}

// Exit is how a step ended, and what the kernel did meanwhile.
type Exit struct {
	Status int    // exit status, 128 + signal
	Error  string // why it could not run

	Modules   []string // loaded modules by name after the step, sorted
	Asked     []string // what the kernel asked modprobe for during the step
	Unaltered bool     // the modules are those from before the step
}

// Kinds of frame.
const (
	Begun  byte = 'b' // the guest is ready for the first step
	Stdout byte = 'o' // what a step wrote
	Stderr byte = 'e'
	Ended  byte = 'x' // a step's Exit as JSON
	File   byte = 'f' // a name, NUL, and the content
	Log    byte = 'l' // trouble of the first process itself
	Done   byte = 'd' // the plan was carried out
)

// maxFrame bounds a frame's payload: 64 MiB is more than any record or report.
const maxFrame = 64 << 20

// Frame is one message of the guest.
type Frame struct {
	Kind byte
	Step int
	Data []byte
}

// Sender writes frames. Its methods may be called concurrently.
type Sender struct {
	mu sync.Mutex
	w  io.Writer
}

// NewSender returns a Sender on w.
func NewSender(w io.Writer) *Sender { return &Sender{w: w} }

// Send writes one frame.
func (s *Sender) Send(kind byte, step int, data []byte) error {
	buf := make([]byte, 7, 7+len(data))
	buf[0] = kind
	binary.BigEndian.PutUint16(buf[1:], uint16(step))
	binary.BigEndian.PutUint32(buf[3:], uint32(len(data)))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(append(buf, data...))
	return err
}

// SendJSON writes one frame that holds v.
func (s *Sender) SendJSON(kind byte, step int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.Send(kind, step, data)
}

// Stream returns a writer that sends what it is given as frames of one kind.
func (s *Sender) Stream(kind byte, step int) io.Writer { return stream{s, kind, step} }

type stream struct {
	s    *Sender
	kind byte
	step int
}

func (w stream) Write(p []byte) (int, error) {
	if err := w.s.Send(w.kind, w.step, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read returns the next frame, or io.EOF after the last whole one.
func Read(r io.Reader) (Frame, error) {
	var head [7]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("frame header: %w", err)
		}
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(head[3:])
	if n > maxFrame {
		return Frame{}, fmt.Errorf("frame %q of %d bytes is larger than %d", head[0], n, maxFrame)
	}
	f := Frame{Kind: head[0], Step: int(binary.BigEndian.Uint16(head[1:])), Data: make([]byte, n)}
	if _, err := io.ReadFull(r, f.Data); err != nil {
		return Frame{}, fmt.Errorf("frame %q of %d bytes: %w", f.Kind, n, io.ErrUnexpectedEOF)
	}
	return f, nil
}
