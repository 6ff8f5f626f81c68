package ebpf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

const (
	// quietFunction is a function that the kernel has for its own tests of BPF
	// and never calls otherwise (net/bpf/test_run.c, Linux 5.5): what is attached
	// there runs never, and slows nothing down.
	quietFunction = "bpf_fentry_test1"

	// quietTracepoint is one that runs seldom, and that every kernel with
	// tracepoints has.
	quietTracepoint = "sched_process_exec"
)

// A capability is one way to attach to the kernel that can be tried.
type capability struct {
	id    string
	typed bool   // it takes the types of the kernel
	what  string // it attaches to
	try   func(*kernel) error
}

// Probe tries each way to attach to the kernel with a program that reads kernel
// memory and does nothing with it, and releases it at once. The answers have the
// ids fentry, kprobe, kprobe_multi, tp_btf, raw_tracepoint, tracepoint and
// perf_event. Where privileges are missing they are denied, and say which.
//
// It takes some milliseconds, or some tens of them where the machine is slow.
func Probe(ctx context.Context) []probe.Tier { return tryAll(ctx, newKernel()) }

func tryAll(ctx context.Context, k *kernel) []probe.Tier {
	var out []probe.Tier
	for _, c := range []capability{
		{"fentry", true, "the entry of kernel functions", tryFentry},
		{"kprobe", false, "kernel functions, by breakpoints", tryKprobe},
		{"kprobe_multi", false, "many kernel functions at a time", tryKprobeMulti},
		{"tp_btf", true, "tracepoints, with types", tryTypedTracepoint},
		{"raw_tracepoint", false, "tracepoints, without types", tryRawTracepoint},
		{"tracepoint", false, "tracepoints, by way of tracefs", tryTracepoint},
		{"perf_event", false, "a clock", tryPerfEvent},
	} {
		if err := context.Cause(ctx); err != nil {
			out = append(out, probe.Tier{ID: c.id, Status: probe.UnknownFeature, Detail: "not tried: " + err.Error()})
			continue
		}
		out = append(out, c.answer(c.attempt(k)))
	}
	return privileged(out)
}

// attempt tries it, if the kernel has the types that it takes.
func (c capability) attempt(k *kernel) error {
	if c.typed {
		if _, err := k.cache.Kernel(); err != nil {
			return fmt.Errorf("type information of the kernel: %w", err)
		}
	}
	return c.try(k)
}

// privileged corrects what looks like a lack of privileges and is none: kernels
// without direct calls from ftrace refuse fentry with EPERM, and yet take a
// program of the same type for a tracepoint.
func privileged(tiers []probe.Tier) []probe.Tier {
	fentry, typed := &tiers[0], tiers[3]
	if fentry.Status == probe.Denied && typed.Status == probe.Supported {
		fentry.Status = probe.Unsupported
		fentry.Detail = "The kernel refuses programs at the entry of functions (EPERM), and takes those of the same type for tracepoints, as kernels do that have no direct calls from ftrace."
	}
	return tiers
}

// answer judges what trying said.
func (c capability) answer(err error) probe.Tier {
	t := probe.Tier{ID: c.id}
	name := sys.ErrnoName(err)
	switch {
	case err == nil:
		t.Status, t.Detail = probe.Supported, "A program that reads kernel memory was attached to "+c.what+"."
		return t
	case errors.Is(err, fs.ErrPermission) || name == "EINVAL" && lockdown() == "confidentiality":
		t.Status, t.Detail = probe.Denied, missingPrivilege()
	case errors.Is(err, errNoTracefs):
		t.Status, t.Detail = probe.Disabled, "tracefs is not mounted; `mount -t tracefs tracefs /sys/kernel/tracing` makes it work."
		return t
	case errors.Is(err, btf.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		t.Status, t.Detail = probe.Unsupported, "The kernel lacks what it takes to attach to "+c.what+"."
	case errors.Is(translate(err), errors.ErrUnsupported), name == "EINVAL", name == "ENOTSUPP":
		t.Status, t.Detail = probe.Unsupported, "The kernel does not attach programs to "+c.what+"."
	default:
		t.Status, t.Detail = probe.UnknownFeature, "It could not be told: "+firstLine(err)+"."
		return t
	}
	if name != "" {
		t.Detail = strings.TrimSuffix(t.Detail, ".") + " (" + name + ")."
	}
	return t
}

// explain adds to an error that matches fs.ErrPermission what is needed.
func explain(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if errors.Is(err, errNoAddresses) && lockdown() != "confidentiality" {
		return &PermissionError{Err: err,
			Needs: "Tracing needs CAP_SYSLOG, too, to read the addresses of kernel functions: " + whoSeesAddresses() + "."}
	}
	return &PermissionError{Needs: missingPrivilege(), Err: err}
}

// missingPrivilege says what a process needs that may not trace.
func missingPrivilege() string {
	if lockdown() == "confidentiality" {
		return "The kernel is locked down (confidentiality), and nobody may read its memory."
	}
	caps, err := sys.ThreadCaps()
	if err == nil && (caps.Has(sys.CapSysAdmin) || caps.Has(sys.CapBPF) && caps.Has(sys.CapPerfmon)) {
		return "This process has the capabilities and is refused all the same: a container, a seccomp filter or a security module forbids it."
	}
	s := "Tracing needs CAP_BPF and CAP_PERFMON, or root"
	if b, err := os.ReadFile("/proc/sys/kernel/unprivileged_bpf_disabled"); err == nil {
		s += "; kernel.unprivileged_bpf_disabled is " + strings.TrimSpace(string(b))
	}
	if addressesHidden() {
		s += "; without root CAP_SYSLOG, too, as " + whoSeesAddresses()
	}
	return s + "."
}

// lockdown returns the word that stands for the state of lockdown; none if it
// cannot be told.
func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "none"
	}
	_, s, _ := strings.Cut(string(b), "[")
	s, _, _ = strings.Cut(s, "]")
	return s
}

// attach loads a program that reads eight bytes by a pointer to nowhere, which
// the kernel survives, and attaches it.
func attach(spec ebpf.ProgramSpec, k *kernel, to func(*ebpf.Program) (link.Link, error)) (err error) {
	spec.Name, spec.License = "zcprobe_try", "GPL"
	spec.Instructions = asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, 8),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnProbeReadKernel.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
	// A collection, since only those take types that have been read.
	c, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{spec.Name: &spec}},
		ebpf.CollectionOptions{Cache: k.cache, Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer c.Close()
	l, err := to(c.Programs[spec.Name])
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return l.Close()
}

// attachTyped is for programs that are loaded for one place, by its type.
func attachTyped(k *kernel, to string, how ebpf.AttachType) error {
	return attach(ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: how, AttachTo: to}, k, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachTracing(link.TracingOptions{Program: p, AttachType: how})
	})
}

func tryFentry(k *kernel) error {
	return attachTyped(k, quietFunction, ebpf.AttachTraceFEntry)
}

func tryTypedTracepoint(k *kernel) error {
	return attachTyped(k, quietTracepoint, ebpf.AttachTraceRawTp)
}

// errNoKprobes is what kernels since 4.17 mean by having no such kind of event.
var errNoKprobes = fmt.Errorf("no kprobe events: %w", errors.ErrUnsupported)

func tryKprobe(k *kernel) error {
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe/type"); errors.Is(err, fs.ErrNotExist) {
		return errNoKprobes
	}
	return attach(ebpf.ProgramSpec{Type: ebpf.Kprobe}, k, func(p *ebpf.Program) (link.Link, error) {
		return link.Kprobe(quietFunction, p, nil)
	})
}

func tryKprobeMulti(k *kernel) error {
	return attach(ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti}, k, func(p *ebpf.Program) (link.Link, error) {
		return link.KprobeMulti(p, link.KprobeMultiOptions{Symbols: []string{quietFunction}})
	})
}

func tryRawTracepoint(k *kernel) error {
	return attach(ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, k, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: quietTracepoint, Program: p})
	})
}

var errNoTracefs = errors.New("tracefs is not mounted")

func tryTracepoint(k *kernel) error {
	return attach(ebpf.ProgramSpec{Type: ebpf.TracePoint}, k, func(p *ebpf.Program) (link.Link, error) {
		l, err := link.Tracepoint("sched", quietTracepoint, p, nil)
		if err != nil && !mounted() {
			err = fmt.Errorf("%w: %w", errNoTracefs, err)
		}
		return l, err
	})
}

// mounted reports whether tracefs is where it is looked for, as far as this
// process may see.
func mounted() bool {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if _, err := os.Stat(dir + "/events"); err == nil || errors.Is(err, fs.ErrPermission) {
			return true
		}
	}
	return false
}

func tryPerfEvent(k *kernel) error {
	return attach(ebpf.ProgramSpec{Type: ebpf.PerfEvent}, k, func(p *ebpf.Program) (link.Link, error) {
		event, err := openClock()
		if err != nil {
			return nil, err
		}
		l := clockLink{fd: event}
		if err := sys.SetEventProgram(event, p.FD()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return l, nil
	})
}

// openClock opens an event of the first CPU that is online. An event of a thread
// would have the kernel patch its scheduler on all CPUs, where it keeps account of
// such events (perf_sched_events).
func openClock() (event int, err error) {
	const most = 64
	for cpu := range most {
		if event, err = sys.OpenClockEvent(cpu); !errors.Is(err, syscall.ENODEV) {
			break
		}
	}
	return event, err
}

// A clockLink is a perf event with a program.
type clockLink struct {
	link.Link
	fd int
}

func (l clockLink) Close() error { return syscall.Close(l.fd) }
