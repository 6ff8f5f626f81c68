package ebpf

import "github.com/zcprobe/zcprobe/probe"

// Advice is something worth doing that the trace has shown.
type Advice struct {
	ID     string `json:"id"` // of the catalogue, see probe.LookupCause
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitzero"`

	Kind   probe.CauseKind `json:"kind"`
	PID    int             `json:"pid"`    // of the process it is about; 0: no single one
	Comm   string          `json:"comm"`   // its name
	Device string          `json:"device"` // empty where no device is to blame
	Calls  uint64          `json:"calls"`  // system calls that show it; 0 where it is not about calls
	Bytes  uint64          `json:"bytes"`  // payload, or memory, that it is about; at least so much

	// Evidence is what was seen, and where.
	Evidence []probe.Evidence `json:"evidence"`
}
