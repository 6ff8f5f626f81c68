package ebpf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// callHooks is what diagnosis has in the kernel.
type callHooks struct {
	maps   callsMaps
	loaded *ebpf.Collection
	links  []link.Link // there all the time
	calls  link.Link   // of sys_exit, while it is attached
	each   *link.Iter  // of sockets
}

// hookCalls loads the programs, and says what became of each hook. None looks at
// calls yet.
func hookCalls(k *kernel, o Options, hooks []Hook) (*callHooks, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift RLIMIT_MEMLOCK: %w", translate(err))
	}
	types, err := k.types()
	if err != nil {
		return nil, err
	}
	spec, err := loadCalls()
	if err != nil {
		return nil, fmt.Errorf("programs: %w", err)
	}
	h := &callHooks{}
	var typedef *btf.Typedef
	if types.TypeByName("btf_trace_"+hookCompletion, &typedef) != nil {
		delete(spec.Programs, hookCompletion)
	}
	if err := setCalls(spec, types, o); err != nil {
		return nil, err
	}
	if h.loaded, err = k.load(spec, nil); err != nil {
		return nil, fmt.Errorf("load programs: %w", translate(err))
	}
	if err := h.attach(o, hooks); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func setCalls(spec *ebpf.CollectionSpec, kernel *btf.Spec, o Options) error {
	bit, err := enumValue(kernel, "sock_flags", "SOCK_ZEROCOPY")
	if err != nil {
		return err
	}
	for name, value := range map[string]any{
		"bit_so_zerocopy": bit,
		"only_processes":  uint32(min(len(o.Processes), 1)),
		"only_cgroup":     o.onlyCgroup(),
		"by_cgroup":       uint32(min(len(o.Cgroups), 1)),
		"tracer":          uint32(os.Getpid()),
		"small_send":      uint64(smallSend),
		"small_splice":    uint64(smallSplice),
	} {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("programs have no variable %s", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func (h *callHooks) attach(o Options, hooks []Hook) error {
	if err := h.loaded.Assign(&h.maps); err != nil {
		return fmt.Errorf("programs: %w", err)
	}
	for _, pid := range o.Processes {
		if err := h.maps.Processes.Put(uint32(pid), uint32(pid)); err != nil {
			return fmt.Errorf("look at process %d: %w", pid, err)
		}
	}
	for i := range hooks {
		hook := &hooks[i]
		switch {
		case hook.Err != nil:
			continue
		case hook.Name == hookFiles:
			if h.each, hook.Err = link.AttachIter(link.IterOptions{Program: h.loaded.Programs["each_socket"]}); hook.Err != nil {
				return fmt.Errorf("attach to files of tasks: %w", translate(hook.Err))
			}
		case h.loaded.Programs[hook.Name] == nil:
			hook.Err = fmt.Errorf("%w: %w", errNoTracepoint, errors.ErrUnsupported)
			continue
		case hook.Name != hookCallEnd: // that is attached when it is time
			l, err := h.tracepoint(hook.Name)
			if err != nil {
				return err
			}
			h.links = append(h.links, l)
		}
		hook.Attached = true
	}
	return nil
}

func (h *callHooks) tracepoint(name string) (link.Link, error) {
	l, err := link.AttachTracing(link.TracingOptions{Program: h.loaded.Programs[name], AttachType: ebpf.AttachTraceRawTp})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", name, translate(err))
	}
	return l, nil
}

// look attaches to the end of every system call, for as long as is told by the
// next call of unlook.
func (h *callHooks) look() (err error) {
	if h.calls, err = h.tracepoint(hookCallEnd); err != nil {
		return err
	}
	return h.note(1)
}

// note tells the programs whether they learn of calls.
func (h *callHooks) note(looking uint32) error {
	if err := h.loaded.Variables["looking"].Set(looking); err != nil {
		return fmt.Errorf("note that calls are looked at: %w", err)
	}
	return nil
}

func (h *callHooks) unlook() error {
	if h.calls == nil {
		return nil
	}
	l := h.calls
	h.calls = nil
	return errors.Join(h.note(0), l.Close())
}

func (h *callHooks) close() error {
	errs := []error{h.unlook()}
	for _, l := range h.links {
		errs = append(errs, l.Close())
	}
	if h.each != nil {
		errs = append(errs, h.each.Close())
	}
	if h.loaded != nil {
		h.loaded.Close()
	}
	return errors.Join(errs...)
}

// counts reads what was seen of calls so far.
func (h *callHooks) counts() ([]callCount, map[int]latency, error) {
	var out []callCount
	var key callsCallKey
	var c callsCallCount
	all := h.maps.Calls.Iterate()
	for all.Next(&key, &c) {
		out = append(out, callCount{
			pid: int(key.Tgid), cgroup: key.Cgroup, comm: text(c.Comm[:]), pattern: pattern(key.Pattern), call: callName(key.Number),
			errno: key.Error, source: party(key.Source), target: party(key.Target),
			calls: c.Calls, bytes: c.Bytes, small: c.Small, inode: c.Inode,
			optmem: c.Memory, lockedPages: c.Locked, pipePages: c.Locked, memlock: c.Limit, asked: c.Asked, slots: c.Slots,
		})
	}
	if err := readErr("calls", all); err != nil {
		return nil, nil, err
	}
	latencies := map[int]latency{}
	var pid uint32
	var l callsLatency
	each := h.maps.Latencies.Iterate()
	for each.Next(&pid, &l) {
		latencies[int(pid)] = latency{completed: l.Completed, copied: l.Copied, most: time.Duration(l.MostNs), steps: l.Steps[:]}
	}
	return out, latencies, readErr("latencies", each)
}

// uncounted is how many calls there was no room for.
func (h *callHooks) uncounted() (n uint64, err error) {
	if err := h.maps.Uncounted.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("read losses: %w", err)
	}
	return n, nil
}

// sockets reads the sockets of the processes looked at, as they are now: those that
// may lend memory, have something to tell their owner, or may send to paths whose
// MTU is probed, and at least one of each process and network namespace.
func (h *callHooks) sockets() ([]socketNow, error) {
	r, err := h.each.Open()
	if err != nil {
		return nil, fmt.Errorf("read sockets: %w", translate(err))
	}
	defer r.Close()
	var s callsSocketNow
	var out []socketNow
	seen := map[uint64]bool{}
	raw, all := make([]byte, binary.Size(s)), bufio.NewReaderSize(r, 64<<10)
	for {
		if _, err := io.ReadFull(all, raw); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("read sockets: %w", err)
		}
		if _, err := binary.Decode(raw, binary.NativeEndian, &s); err != nil {
			return nil, fmt.Errorf("read sockets: %w", err)
		}
		if seen[s.Sk] { // by another descriptor
			continue
		}
		seen[s.Sk] = true
		out = append(out, socketNowOf(&s))
	}
}

func socketNowOf(s *callsSocketNow) socketNow {
	facts := socketOf(traceSocketFacts{
		Inode: s.Inode, Cgroup: s.Cgroup, Netns: s.Netns, Uid: s.Uid, Tgid: s.Tgid, Family: s.Family, Protocol: s.Protocol,
		LocalPort: s.LocalPort, RemotePort: s.RemotePort, Local: s.Local, Remote: s.Remote, Comm: [16]uint8(s.Comm),
	})
	facts.ID = s.Sk
	const tcpListen = 10 // TCP_LISTEN, net/tcp_states.h
	return socketNow{
		Socket: facts, listens: s.Protocol == 6 && s.State == tcpListen,
		sent: s.Sent, acked: s.Acked, optmem: uint64(s.Optmem), optmemMax: uint64(s.OptmemMax), queued: uint64(s.Queued),
		zerocopy: s.Zerocopy != 0, unread: int(s.Unread), ids: s.Known != 0, oldest: s.Oldest, newest: s.Newest, next: s.Next,
		copied: s.Copied != 0, mtuProbing: int(s.MtuProbing), timestamps: s.Timestamps&sendTimestamps != 0,
	}
}

// sendTimestamps are the flags of SO_TIMESTAMPING that ask for one of each send:
// TX_HARDWARE, TX_SOFTWARE, TX_SCHED, TX_ACK of linux/net_tstamp.h.
const sendTimestamps = 1 | 2 | 1<<8 | 1<<9
