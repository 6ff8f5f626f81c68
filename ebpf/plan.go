package ebpf

import "github.com/zcprobe/zcprobe/probe"

// A Plan is what a trace would do on this host.
type Plan struct {
	Tier  Tier         // that would be taken
	Err   error        // why it cannot be had; nil if it can
	Tiers []probe.Tier // what was tried to choose it; see [Probe]
	Hooks []Hook       // none is attached; one with an Err would not be
	Needs []Privilege
}

// A Privilege is something that tracing takes and that not every process has.
type Privilege struct {
	Name string // "CAP_BPF"
	For  string // what it is for
	Held bool
}
