package ebpf

import (
	"fmt"
	"strings"
)

// Counts shows what the kernel has counted for one socket, for tests that fail.
func (t *Tracer) Counts(inode uint64) string {
	all, err := t.in.drain()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, s := range all.sockets {
		if s.Inode != inode {
			continue
		}
		for _, o := range all.counts {
			if o.socket == s.ID {
				fmt.Fprintf(&b, "place %d api %d memory %d was %d evidence %#x device %s where %q: %d bytes %d packets %d lent\n",
					o.place, o.api, o.memory, o.was, uint32(o.evidence), o.device.Name, o.where, o.bytes, o.packets, o.lent)
			}
		}
	}
	fmt.Fprintf(&b, "%+v", all.losses)
	return b.String()
}

// Allow sets how much of a processor's time looking may take: nothing makes a
// tracer sample whatever there is to see.
func (t *Tracer) Allow(part float64) {
	w := t.in.(*attachment).watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.may = part
}
