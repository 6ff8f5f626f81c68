package ebpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// stackDepth is STACK_DEPTH of bpf/state.h.
const stackDepth = 48

// readStacks reads the stacks that observations name. The symbols are read now
// and not before: programs have some, too, and only while they are loaded.
func (a *attachment) readStacks(all *observations) error {
	raw := map[uint32][]uint64{}
	var addresses []uint64
	for _, o := range all.counts {
		if o.stack == 0 || raw[o.stack] != nil {
			continue
		}
		var stack [stackDepth]uint64
		if err := a.objects.Stacks.Lookup(o.stack-1, &stack); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("read stack: %w", err)
		}
		n := slices.Index(stack[:], 0)
		if n < 0 {
			n = stackDepth
		}
		raw[o.stack] = stack[:n]
		addresses = append(addresses, stack[:n]...)
	}
	names, err := nearest(addresses)
	if err != nil {
		return err
	}
	all.stacks = make(map[uint32][]string, len(raw))
	for id, stack := range raw {
		all.stacks[id] = frames(stack, names)
	}
	return nil
}

// frames names the functions of a stack, without those by which our programs are
// called.
func frames(stack []uint64, names map[uint64]symbol) []string {
	var out []string
	for _, at := range stack {
		s, ok := names[at]
		if len(out) == 0 && ours(s.name) {
			continue
		}
		if !ok {
			out = append(out, fmt.Sprintf("%#x", at))
			continue
		}
		out = append(out, fmt.Sprintf("%s+%#x", s.name, at-s.address))
	}
	return out
}

func ours(function string) bool {
	return slices.ContainsFunc([]string{"bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_trampoline_", "__bpf_prog_"},
		func(prefix string) bool { return strings.HasPrefix(function, prefix) })
}
