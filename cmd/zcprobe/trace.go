package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/target"
	"github.com/zcprobe/zcprobe/ebpf"
)

type traceOptions struct {
	pids      []int
	comm      string
	cgroup    string
	container string
	dev       string
	to        string
	duration  time.Duration
	interval  time.Duration
	user      string
	tier      string
	exact     bool
	stack     bool
	dryRun    bool
}

func newTraceCmd(a *app) *cobra.Command {
	o := &traceOptions{}
	cmd := &cobra.Command{
		Use:   "trace [-p PID] [-- CMD ARG..]",
		Short: "What is really copied, by which process, where and why",
		Long: `Watches what the kernel does with the payload that processes send, and says how
many bytes went out uncopied, and for every copy where it was made, why, and
what to do about it. Without a filter it watches every process; filters that
are given together must all hold.

With CMD it starts the program when it is watching, and ends with it. CMD keeps
standard input, and its exit status is a field of the answer (128 and the
number of the signal if one ended it); with -o json, what it prints goes to
standard error. SIGINT and SIGTERM are passed on to it.

It ends when CMD or all of the processes of -p have ended, after -d, or when
interrupted (Ctrl-C), and prints the summary then. On a terminal it shows
meanwhile what it sees, unless CMD has the terminal. With -o json each line is
an object, the summary the last, and those of --interval (of all that was seen
so far) before it.

It changes nothing, reads nobody's data and leaves nothing in the kernel,
however it ends. It needs CAP_BPF and CAP_PERFMON, or root; without them it
says so and goes on by --tier none, which needs nothing and sees little.
--dry-run says what it would attach, and what is missing. Where much is sent it
looks at a part and extrapolates; --exact looks at everything.`,
		Example: `  zcprobe trace -p "$(pidof nginx)" -d 10s
  zcprobe trace --to 10.0.0.5:443 --stack
  zcprobe trace --container 4f1c0e9a5b7d -o json
  zcprobe trace --user www-data -- ./server --port 8080`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usagef("%s takes a program behind --, and was given %q before it", cmd.CommandPath(), args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runTrace(cmd.Context(), a, o, args) },
	}
	o.flags(cmd)
	return cmd
}

func (o *traceOptions) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.VarP(&several[int]{v: &o.pids, parse: parsePID, name: "PID"}, "pid", "p", "watch this process and its children; can be repeated")
	fs.StringVar(&o.comm, "comm", "", "watch programs of this `NAME` (as in /proc/PID/comm)")
	fs.StringVar(&o.cgroup, "cgroup", "", "watch the control group `PATH` and those below it")
	fs.StringVar(&o.container, "container", "", "watch the container `ID`, or what it begins with")
	fs.StringVar(&o.dev, "dev", "", "watch what goes to device `IF` first")
	fs.StringVar(&o.to, "to", "", "watch what goes to `HOST[:PORT]` or a prefix")
	fs.DurationVarP(&o.duration, "duration", "d", 0, "end after this `TIME`, 10s")
	fs.DurationVar(&o.interval, "interval", 0, "say every `TIME` what was seen so far")
	fs.StringVar(&o.user, "user", "", "run CMD as the user `NAME`, with the groups of that user")
	fs.StringVar(&o.tier, "tier", "", "way to look: `NAME` fentry, kprobe, tracepoint or none (default: the best)")
	fs.BoolVar(&o.exact, "exact", false, "look at every packet, whatever that costs")
	fs.BoolVar(&o.stack, "stack", false, "show the kernel stacks of causes")
	fs.BoolVar(&o.dryRun, "dry-run", false, "only say what would be attached, and what is missing")
	var tiers []string
	for _, t := range ebpf.Tiers() {
		tiers = append(tiers, string(t))
	}
	cmd.RegisterFlagCompletionFunc("tier", cobra.FixedCompletions(tiers, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"pid", "comm", "container", "dev", "to", "user"} {
		cmd.RegisterFlagCompletionFunc(name, completeNothing)
	}
}

// longestComm is how much of a program's name the kernel keeps (TASK_COMM_LEN,
// without the zero).
const longestComm = 15

// check refuses flags that do not go together.
func (o *traceOptions) check(args []string) error {
	switch {
	case o.user != "" && len(args) == 0:
		return usagef("--user needs -- CMD")
	case len(o.pids) > 0 && len(args) > 0:
		return usagef("-p and -- CMD exclude each other: what is started is watched")
	case o.cgroup != "" && o.container != "":
		return usagef("--cgroup and --container exclude each other")
	case len(o.comm) > longestComm:
		return usagef("--comm: the kernel keeps %d bytes of a name: %q", longestComm, o.comm[:longestComm])
	case o.duration < 0:
		return usagef("-d is a time like 10s")
	case o.interval < 0 || o.interval > 0 && o.interval < 100*time.Millisecond:
		return usagef("--interval is a time of 100ms or more")
	case o.tier != "" && !slices.Contains(ebpf.Tiers(), ebpf.Tier(o.tier)):
		return usagef("--tier is fentry, kprobe, tracepoint or none, not %q", o.tier)
	}
	return nil
}

// options finds what the flags name.
func (o *traceOptions) options(ctx context.Context, command bool) (ebpf.Options, error) {
	out := ebpf.Options{Tier: ebpf.Tier(o.tier), Exact: o.exact, Stacks: o.stack, Comm: o.comm}
	var err error
	if out.Cgroups, err = o.cgroups(); err != nil {
		return out, err
	}
	if o.dev != "" {
		dev, err := net.InterfaceByName(o.dev)
		if err != nil {
			return out, as(kindDevice, fmt.Errorf("no network device %s", o.dev))
		}
		out.Device = dev.Index
	}
	if o.to != "" {
		d, err := target.ParseDestination(ctx, o.to, func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		})
		if err != nil {
			return out, as(kindDestination, fmt.Errorf("--to: %w", err))
		}
		out.Destinations, out.Port = d.Prefixes, d.Port
	}
	for _, pid := range o.pids {
		if err := running(pid); err != nil {
			return out, err
		}
		if leader := target.Leader(os.DirFS("/proc"), pid); leader != pid {
			return out, as(kindProcess, fmt.Errorf("%d is a thread of process %d: watch that with -p %d", pid, leader, leader))
		}
	}
	switch {
	case (command || len(o.pids) > 0) && foreignPIDs() && out.Tier != ebpf.TierNone:
		return out, as(kindUnsupported, errors.New("-p and -- CMD need the initial pid namespace: in a container process ids are others than in the kernel (--pid=host, or use --cgroup, --comm or --to)"))
	case command:
		// Its children are watched, and the program is the first to come.
		out.Processes = []int{os.Getpid()}
	case len(o.pids) > 0:
		if out.Processes, err = target.Family(os.DirFS("/proc"), o.pids); err != nil {
			return out, as(kindProcess, fmt.Errorf("children of the processes: %w", err))
		}
	}
	return out, nil
}

// cgroupMount is where systemd mounts the unified hierarchy; beside a version 1
// hierarchy it is below.
const cgroupMount = "/sys/fs/cgroup"

// cgroups returns the ids of the control group and of all below it.
func (o *traceOptions) cgroups() ([]uint64, error) {
	if o.cgroup == "" && o.container == "" {
		return nil, nil
	}
	mount := cgroupMount
	if _, err := os.Stat(filepath.Join(mount, "unified", "cgroup.controllers")); err == nil {
		mount = filepath.Join(mount, "unified")
	}
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err != nil {
		return nil, as(kindUnsupported, fmt.Errorf("the unified hierarchy of control groups is not mounted at %s: sockets belong to no other", mount))
	}
	tree := os.DirFS(mount)
	var dir string
	var err error
	if o.container != "" {
		dir, err = target.Container(tree, o.container)
	} else {
		dir, err = target.CgroupPath(mount, o.cgroup)
	}
	if err != nil {
		return nil, as(kindProcess, err)
	}
	var ids []uint64
	err = fs.WalkDir(tree, dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case name != dir && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		}
		st, err := fs.Stat(tree, name)
		if err != nil {
			return nil // it ended
		}
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			ids = append(ids, uint64(s.Ino))
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, as(kindProcess, fmt.Errorf("no control group %s", o.cgroup))
	case err != nil:
		return nil, as(kindProcess, fmt.Errorf("control group: %w", err))
	case len(ids) == 0:
		return nil, as(kindProcess, fmt.Errorf("%s is no control group", strings.Join([]string{mount, dir}, "/")))
	}
	return ids, nil
}
