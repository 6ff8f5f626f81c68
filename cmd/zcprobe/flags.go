package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/probe"
)

// optional is a flag value that is nil until it is given.
type optional[T any] struct {
	v     **T
	parse func(string) (T, error)
	name  string
	text  string
}

func (o *optional[T]) String() string { return o.text }
func (o *optional[T]) Type() string   { return o.name }

func (o *optional[T]) Set(s string) error {
	v, err := o.parse(s)
	if err != nil {
		return err
	}
	*o.v, o.text = &v, s
	return nil
}

func parseUID(s string) (uint32, error) {
	// The last id is reserved: (uid_t)-1 means "leave it".
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is no user id", s)
	}
	return uint32(n), nil
}

// checked is a flag value of a type that has its own syntax.
type checked[T any] struct {
	v     *T
	parse func(string) (T, error)
	name  string
	text  string
}

func (c *checked[T]) String() string { return c.text }
func (c *checked[T]) Type() string   { return c.name }

func (c *checked[T]) Set(s string) error {
	v, err := c.parse(s)
	if err != nil {
		return err
	}
	*c.v, c.text = v, s
	return nil
}

// several is a flag that can be repeated.
type several[T any] struct {
	v     *[]T
	parse func(string) (T, error)
	name  string
	text  []string
}

func (m *several[T]) String() string { return strings.Join(m.text, ",") }
func (m *several[T]) Type() string   { return m.name }

func (m *several[T]) Set(s string) error {
	for one := range strings.FieldsSeq(strings.ReplaceAll(s, ",", " ")) {
		v, err := m.parse(one)
		if err != nil {
			return err
		}
		*m.v, m.text = append(*m.v, v), append(m.text, one)
	}
	return nil
}

func parseRTT(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > time.Hour {
		return 0, fmt.Errorf("%q is no round-trip time: write 200us, 1ms or 80ms", s)
	}
	return d, nil
}

func parseConnections(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || n > 100_000_000 {
		return 0, fmt.Errorf("%q is no number of connections", s)
	}
	return n, nil
}

func parsePID(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no process id", s)
	}
	return int(n), nil
}

// source says which host is looked at, and how closely.
type source struct {
	probe.Options
	record string
}

// hostFlags are for commands that read facts.
func (s *source) hostFlags(fs *pflag.FlagSet) {
	fs.StringVar(&s.record, "from-record", "", "judge the record in `DIR` instead of this host")
	s.liveFlags(fs)
}

// liveFlags are for commands that look at this host.
func (s *source) liveFlags(fs *pflag.FlagSet) {
	fs.StringVar(&s.Dir, "dir", "", "test the file system of `DIR`, with the files in it")
	fs.BoolVar(&s.WriteTest, "write-test", false, "allow temporary files in --dir")
	fs.Var(&checked[int]{v: &s.PID, parse: parsePID, name: "PID"}, "pid", "judge the limits of this process")
}

// serviceFlags describe a service that does not run yet and its traffic.
func (s *source) serviceFlags(fs *pflag.FlagSet) {
	fs.Var(&optional[uint32]{v: &s.ServiceUID, parse: parseUID, name: "UID"}, "service-uid", "judge the limits for a service of this user")
	fs.Var(&optional[uint64]{v: &s.ServiceMemlock, parse: quantity.ParseLimit, name: "SIZE"}, "service-memlock", "... with this RLIMIT_MEMLOCK: bytes, 64K, unlimited")
	fs.Var(&checked[uint64]{v: &s.Load.BandwidthBytesPerSec, parse: quantity.ParseBandwidth, name: "RATE"}, "bandwidth", "traffic of all connections (default 10Gbit)")
	fs.Var(&checked[time.Duration]{v: &s.Load.RTT, parse: parseRTT, name: "TIME"}, "rtt", "time until a sent byte is acknowledged (default 1ms)")
	fs.Var(&checked[uint64]{v: &s.Load.Connections, parse: parseConnections, name: "N"}, "connections", "connections at a time (default 100)")
}

// check refuses flags that do not go together.
func (s *source) check() error {
	switch {
	case s.WriteTest && s.Dir == "":
		return usagef("--write-test needs --dir")
	case s.From != "" && s.To == "" && len(s.Also) == 0:
		return usagef("--from needs --to")
	case s.PID != 0 && (s.ServiceUID != nil || s.ServiceMemlock != nil):
		return usagef("--pid names a process that runs, --service-uid and --service-memlock one that does not")
	case s.record == "":
	case s.Dir != "":
		return usagef("--dir looks at this host, not at a record: make the record with it")
	case s.PID != 0:
		return usagef("--pid looks at this host, not at a record: make the record with it")
	}
	return nil
}

// view is a host as it was seen.
type view struct {
	facts *probe.Facts
	o     probe.Options
	tiers []probe.Tier // of tracing; nil for a record, which cannot be tried
}

func (v view) report() *probe.Report {
	r := probe.Judge(v.facts, v.o)
	if v.tiers != nil {
		r.Tracing.Tiers = v.tiers
	}
	return r
}

// look reads the facts that s asks for, of this host or from a record.
func (a *app) look(ctx context.Context, s source) (view, error) {
	if err := s.check(); err != nil {
		return view{}, err
	}
	if s.record != "" {
		return a.replay(s)
	}
	if err := running(s.PID); err != nil {
		return view{}, err
	}
	done := a.progress("looking at this host")
	f, err := a.collect(ctx, s.Options)
	done()
	if err != nil {
		return view{}, err
	}
	if err := known(f, s.Options); err != nil {
		return view{}, err
	}
	return view{facts: f, o: s.Options, tiers: a.tiers(ctx)}, nil
}

// replay reads a record. What was asked for there is found under the name that
// stands in the record.
func (a *app) replay(s source) (view, error) {
	r, err := a.open(s.record)
	if err != nil {
		return view{}, as(kindRecord, err)
	}
	o, err := r.Options(s.Options)
	if err != nil {
		return view{}, as(kindRecord, err)
	}
	o.Also = nil
	for _, d := range s.Also {
		asked := s.Options
		asked.To, asked.From = d.To, d.From
		there, err := r.Options(asked)
		if err != nil {
			return view{}, as(kindRecord, err)
		}
		o.Also = append(o.Also, probe.Destination{To: there.To, From: there.From})
	}
	if err := known(r.Facts, o); err != nil {
		return view{}, err
	}
	return view{facts: r.Facts, o: o}, nil
}

// running refuses a process that does not exist: limits that nobody has would
// look like an answer.
func running(pid int) error {
	if pid == 0 {
		return nil
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		defer p.Release()
		err = p.Signal(syscall.Signal(0)) // checks, and sends nothing
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return as(kindProcess, fmt.Errorf("no process %d", pid))
	}
	return nil // there, if not ours to signal
}

// known refuses a device that the host does not have: a report without devices
// would look like an answer.
func known(f *probe.Facts, o probe.Options) error {
	if o.Dev == "" || len(f.Networks) == 0 || f.Networks[0].Error != "" {
		return nil
	}
	if slices.ContainsFunc(f.Networks[0].Links, func(l probe.Link) bool { return l.Name == o.Dev }) {
		return nil
	}
	return as(kindDevice, fmt.Errorf("no network device %s", o.Dev))
}

// completeNothing keeps the shell from offering files where none belong.
func completeNothing(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}
