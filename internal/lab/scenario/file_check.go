package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
)

// check finds what is wrong with a scenario that has all its fields.
func (r *fileReader) check(s *Scenario) {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*(/[a-z0-9_.-]+)?$`).MatchString(s.ID) || len(s.ID) > mostID {
		r.problem("id", "is to be like no-sg/sendfile, of %d bytes at most", mostID)
	}
	if strings.TrimSpace(s.Summary) == "" {
		r.problem("summary", "is empty")
	}
	r.checkSetUp(s.SetUp)
	if len(s.SetUp) > 0 {
		r.checkTraffic(s)
	}
	r.checkTruths(s.Truths)
	if s.Blind != nil && s.Unobserved == "" {
		r.problem("blind_tiers", "are those that unobserved is about, which is missing")
	}
	for i, t := range s.Blind {
		if !slices.Contains(ebpf.Tiers(), ebpf.Tier(t)) {
			r.problem(fmt.Sprintf("blind_tiers[%d]", i), "is %q, which is no tier", t)
		}
	}
}

const mostID = 80 // bytes

// checkSetUp: the first step is a place, and the others are about what it has.
func (r *fileReader) checkSetUp(steps Steps) {
	if len(steps) == 0 {
		r.problem("set_up", "is empty")
		return
	}
	first, ok := steps[0].(placer)
	if !ok {
		r.problem("set_up[0].step", "is to be a place: %s", places())
		return
	}
	has := first.devices()
	for i, s := range steps[1:] {
		at := fmt.Sprintf("set_up[%d]", i+1)
		if _, ok := s.(placer); ok {
			r.problem(at+".step", "is a second place")
		}
		if _, ok := s.(Feeder); ok {
			if has[AtFeeder] != nil {
				r.problem(at+".step", "is a second feeder")
			}
			has[AtSender], has[AtFeeder] = append(has[AtSender], "f1"), []string{"lo", "f0"}
		}
		r.checkStep(at, s, has)
	}
}

func places() string {
	var names []string
	for name, s := range kinds() {
		if _, ok := s.(placer); ok {
			names = append(names, name)
		}
	}
	return list(named(names))
}

// checkStep checks the numbers and names of a step that is no place.
func (r *fileReader) checkStep(at string, s Step, has map[Where][]string) {
	within := func(field string, n, least, most uint64) {
		if n < least || n > most {
			r.problem(at+"."+field, "is %d, and %d to %d are possible", n, least, most)
		}
	}
	device := func(where Where, name string) {
		switch {
		case has[where] == nil:
			r.problem(at+".at", "is %q, which this place has not", where)
		case !slices.Contains(has[where], name):
			r.problem(at+".device", "is %q, and there are %s at the %s", name, list(has[where]), where)
		}
	}
	switch s := s.(type) {
	case Off:
		device(s.At, s.Device)
		if !regexp.MustCompile(`^[a-z0-9-]{1,31}$`).MatchString(s.Feature) {
			r.problem(at+".feature", "is %q, which is no name of a feature", s.Feature)
		}
	case Tap:
		if s.Device != "" || has[s.At] == nil {
			device(s.At, s.Device)
		}
	case XDP:
		device(s.At, s.Device)
	case Netem:
		device(AtSender, s.Device)
		within("delay_ns", uint64(s.Delay), 0, uint64(100*time.Millisecond))
	case TokenBucket:
		device(AtSender, s.Device)
		within("rate_bytes_per_s", s.Rate, 1e6, 4e9)
		within("burst_bytes", uint64(s.Burst), 2000, mostWaiting)
	case Narrow:
		device(s.At, s.Device)
		within("mtu", uint64(s.MTU), 68, 65535)
	case Memlock:
		within("bytes", s.Bytes, 0, 1<<40)
	case HugePages:
		within("pages", uint64(s.Pages), 1, 64)
	case Sysctl:
		if has[s.At] == nil {
			device(s.At, "")
		}
		r.checkSysctl(at, s)
	}
}

// checkSysctl lets those through that are of a network namespace. Whether this kernel
// has it there is found out when it is set.
func (r *fileReader) checkSysctl(at string, s Sysctl) {
	switch {
	case !regexp.MustCompile(`^net\.(core|ipv4|ipv6|mptcp|unix)(\.[a-z0-9_]+){1,4}$`).MatchString(s.Name) || len(s.Name) > mostID:
		r.problem(at+".name", "is %q, and those of net.core, net.ipv4, net.ipv6, net.mptcp and net.unix can be set", s.Name)
	case strings.HasSuffix(s.Name, "congestion_control") || s.Name == "net.core.default_qdisc":
		r.problem(at+".name", "is %q, which loads modules", s.Name)
	}
	if !regexp.MustCompile(`^[0-9a-zA-Z_. -]{1,64}$`).MatchString(s.Value) {
		r.problem(at+".value", "is %q, and 1 to 64 letters, digits and spaces are possible", s.Value)
	}
}

// checkTruths: each says how it is known, and they do not overlap.
func (r *fileReader) checkTruths(all []Truth) {
	if len(all) == 0 {
		r.problem("truths", "are none")
	}
	for i, t := range all {
		at := fmt.Sprintf("truths[%d]", i)
		from, ok := r.bound(at+".since", t.Since, version{})
		to, ok2 := r.bound(at+".before", t.Before, version{major: 1 << 30})
		if ok && ok2 && !from.before(to) {
			r.problem(at, "holds on no kernel")
		}
		for k, other := range all[:i] {
			since, before := first2(parseBound(other.Since, version{})), first2(parseBound(other.Before, version{major: 1 << 30}))
			if ok && ok2 && from.before(before) && since.before(to) {
				r.problem(at, "overlaps with truths[%d]", k)
			}
		}
		if !(t.Copied >= 0 && t.Copied <= 1) {
			r.problem(at+".copied", "is %v, and a share from 0 to 1 is possible", t.Copied)
		}
		if t.Most != 0 && !(t.Most > t.Copied && t.Most <= 1) {
			r.problem(at+".copied_at_most", "is %v, and a share above copied is possible, to 1", t.Most)
		}
		for k, id := range t.Causes {
			if c, ok := probe.LookupCause(id); !ok || c.Kind != probe.KindCopy && c.Kind != probe.KindPass {
				r.problem(fmt.Sprintf("%s.causes[%d]", at, k), "is %q, which is no cause of copies or passes (zcprobe explain)", id)
			}
		}
		if _, ok := probe.LookupCause(t.Refused); !ok && t.Refused != "" {
			r.problem(at+".refused", "is %q, which is no id (zcprobe explain)", t.Refused)
		}
		if strings.TrimSpace(t.Why) == "" {
			r.problem(at+".why", "is empty")
		}
	}
}

func first2(v version, _ bool) version { return v }

func (r *fileReader) bound(field, s string, open version) (version, bool) {
	v, ok := parseBound(s, open)
	if !ok {
		r.problem(field, "is %q, and a version is like 6.13", s)
	}
	return v, ok
}

// parseBound reads the bound of a range of kernels; "" is open.
func parseBound(s string, open version) (version, bool) {
	if s == "" {
		return open, true
	}
	if !regexp.MustCompile(`^[1-9][0-9]?\.[0-9]{1,3}$`).MatchString(s) {
		return version{}, false
	}
	v, err := parseVersion(s)
	return v, err == nil
}
