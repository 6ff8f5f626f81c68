package transmit

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// check returns how a plan differs from what the case wants, "" if it does not.
func (tc selectCase) check(rs []rule) string {
	c := idealConditions()
	if tc.set != nil {
		tc.set(&c)
	}
	p := selectBy(rs, c, tc.t, tc.o)
	if p.Backend != tc.want {
		return fmt.Sprintf("chose %s, want %s (%s)", p.Backend, tc.want, p.Reason)
	}
	if tc.note != "" && !slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Cause == tc.note }) {
		return fmt.Sprintf("no note of %s: %v", tc.note, p.Notes)
	}
	if tc.lost == "" {
		return ""
	}
	for _, r := range p.Rejected {
		if r.Backend == tc.lost && (tc.cause == "" || slices.Contains(r.Causes, tc.cause)) &&
			strings.Contains(strings.ToLower(r.Reason), strings.ToLower(tc.words)) {
			return ""
		}
	}
	return fmt.Sprintf("%s is not rejected for %q with %q: %+v", tc.lost, tc.cause, tc.words, p.Rejected)
}

func TestSelect(t *testing.T) {
	for _, tc := range selectCases {
		t.Run(tc.name, func(t *testing.T) {
			if why := tc.check(rules); why != "" {
				t.Error(why)
			}
			c := idealConditions()
			if tc.set != nil {
				tc.set(&c)
			}
			p := Select(c, tc.t, tc.o)
			checkPlan(t, c, tc.t, tc.o, p)
		})
	}
}

// Each rule is missed by a case when it is gone.
func TestEveryRuleCounts(t *testing.T) {
	for i := range rules {
		without := slices.Delete(slices.Clone(rules), i, i+1)
		if !slices.ContainsFunc(selectCases, func(tc selectCase) bool { return tc.check(without) != "" }) {
			t.Errorf("no case notices that rule %d is gone", i)
		}
	}
}

// checkPlan holds a plan to what is promised of every one.
func checkPlan(t testing.TB, c Conditions, tr Transfer, o SelectOptions, p Plan) {
	t.Helper()
	if again := Select(c, tr, o); !reflect.DeepEqual(p, again) {
		t.Errorf("two plans of the same input differ:\n%+v\n%+v", p, again)
	}
	if p.Reason == "" || p.Backend == "" || p.Below == "" || p.Above == "" {
		t.Errorf("something is not said: %+v", p)
	}
	if tr.SizeBytes > 0 && p.At(tr.SizeBytes) != p.Backend {
		t.Errorf("At(%d) is %s, and the plan %s", tr.SizeBytes, p.At(tr.SizeBytes), p.Backend)
	}
	mine := candidates(tr)
	if !slices.Contains(mine, p.Backend) {
		t.Errorf("%s cannot make such a transfer", p.Backend)
	}
	told := map[Backend]bool{p.Backend: true}
	for _, r := range p.Rejected {
		told[r.Backend] = true
		if r.Reason == "" || r.Backend == p.Backend || r.Causes == nil {
			t.Errorf("bad rejection %+v", r)
		}
		for _, id := range r.Causes {
			knownCause(t, id)
		}
	}
	for _, b := range mine {
		if !told[b] {
			t.Errorf("nothing is said of %s", b)
		}
	}
	for _, n := range p.Notes {
		if n.Text == "" {
			t.Error("an empty note")
		}
		if n.Cause != "" {
			knownCause(t, n.Cause)
		}
	}
	checkFallback(t, p, mine)
	checkSafe(t, c, tr, p)
}

func checkFallback(t testing.TB, p Plan, mine []Backend) {
	t.Helper()
	if len(p.Fallback) == 0 && !isLoop(p.Backend) {
		t.Errorf("nothing goes on after %s", p.Backend)
	}
	for i, b := range p.Fallback {
		if b == p.Backend || b == Vmsplice || !slices.Contains(mine, b) {
			t.Errorf("bad fallback %v of %s", p.Fallback, p.Backend)
		}
		if i == len(p.Fallback)-1 && !isLoop(b) {
			t.Errorf("the last resort is %s", b)
		}
	}
}

// checkSafe: whatever was asked for, nothing is planned that sends wrong data or
// is known to fail.
func checkSafe(t testing.TB, c Conditions, tr Transfer, p Plan) {
	t.Helper()
	for _, b := range slices.Concat([]Backend{p.Backend, p.Below, p.Above}, p.Fallback) {
		spliced := tr.Source != SourceMemory && (b == Sendfile || b == Splice || b == MmapZerocopy)
		switch {
		case b == Sendfile && isDenied(c, "sendfile."+string(tr.Protocol)),
			b == CopyFileRange && isDenied(c, "copy_file_range"), b == Vmsplice && isDenied(c, "vmsplice"):
			t.Errorf("%s is planned, which does not work", b)
		case b == MsgZerocopy && tr.Protocol == TCP && !c.ipv6(tr) && isDenied(c, "msg_zerocopy.tcp4"):
			t.Errorf("%s is planned, which does not work", b)
		case tr.Protocol == UDP && spliced && (c.Hazards["udp-splice-csum-loss"].Status != probe.Pass || c.Hazards["udp-sendfile-loss"].Status != probe.Pass || tr.Source != SourceFile || tr.SizeBytes == 0 || tr.SizeBytes > 65527):
			t.Errorf("%s to UDP is planned", b)
		case tr.Source == SourceFile && tr.Protocol != ToFile && tr.Stability == MayChange && spliced:
			t.Errorf("%s of a file that may change is planned", b)
		case tr.Source == SourceFile && c.Hazards["stale-source"].Status == probe.Fail && !isLoop(b):
			t.Errorf("%s of a stale file is planned", b)
		case tr.Source == SourceMemory && !b.Copies() && (tr.Reuse == ReuseAtOnce || tr.Stability == MayChange):
			t.Errorf("%s of memory that changes is planned", b)
		case c.OS != "" && c.OS != "linux" && !isLoop(b):
			t.Errorf("%s is planned for %s", b, c.OS)
		}
	}
}

func isDenied(c Conditions, id string) bool {
	switch c.Features[id].Status {
	case probe.Unsupported, probe.Disabled, probe.Denied:
		return true
	}
	return false
}

func knownCause(t testing.TB, id string) {
	t.Helper()
	if _, ok := probe.LookupCause(id); !ok {
		t.Errorf("the catalogue does not know %q", id)
	}
}

// A plan without a size says from which size on what is used.
func TestThreshold(t *testing.T) {
	stream := changed(memTransfer, func(t *Transfer) { t.SizeBytes = 0 })
	p := Select(idealConditions(), stream, SelectOptions{})
	if p.Backend != MsgZerocopy || p.ThresholdBytes != 32<<10 || p.At(32<<10-1) != Write || p.At(32<<10) != MsgZerocopy {
		t.Errorf("%s from %d bytes on, below it %s", p.Backend, p.ThresholdBytes, p.Below)
	}
	if p := Select(idealConditions(), fileTransfer, SelectOptions{}); p.ThresholdBytes != 0 || p.At(1) != Sendfile {
		t.Errorf("sendfile from %d bytes on", p.ThresholdBytes)
	}
	p = Select(idealConditions(), changed(keptTransfer, func(t *Transfer) { t.SizeBytes = 0 }), SelectOptions{})
	if p.ThresholdBytes != 256<<10 || p.At(65536) != Sendfile || p.At(1<<20) != MmapZerocopy {
		t.Errorf("%s from %d bytes on, below it %s", p.Above, p.ThresholdBytes, p.Below)
	}
	c := idealConditions()
	pathCopies(1, "loopback-delivery", "msg_zerocopy")(&c)
	if p := Select(c, stream, SelectOptions{}); p.ThresholdBytes != Never || p.At(Never) != Write {
		t.Errorf("%s from %d bytes on where it is copied", p.Above, p.ThresholdBytes)
	}
	if d := DefaultCrossover(MsgZerocopy, CacheUnknown); d != 32<<10 {
		t.Errorf("default threshold %d", d)
	}
	if a, b := DefaultCrossover(Write, CacheHot), DefaultCrossover(Sendfile, CacheHot); a != Never || b != 0 {
		t.Errorf("default thresholds %d, %d", a, b)
	}
}

func TestPipeBytes(t *testing.T) {
	for name, c := range map[string]struct {
		l    *probe.Limits
		want int64
	}{
		"unknown":   {nil, 0},
		"unread":    {&probe.Limits{Unknown: []string{"pipe_max_bytes"}}, 0},
		"unlimited": {&probe.Limits{}, 1 << 20},
		"small":     {&probe.Limits{PipeMaxBytes: new(uint64(65536))}, 65536},
		"large":     {&probe.Limits{PipeMaxBytes: new(uint64(1 << 40))}, 1 << 20},
	} {
		if got := Select(Conditions{Limits: c.l}, fileTransfer, SelectOptions{}).PipeBytes; got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for value, want := range map[string]Backend{"": "", "write": Write, "mmap_zerocopy": MmapZerocopy} {
		t.Setenv(EnvBackend, value)
		if b, err := Environment(); b != want || err != nil {
			t.Errorf("%s=%q: %q, %v", EnvBackend, value, b, err)
		}
	}
	t.Setenv(EnvBackend, "WRITE")
	if b, err := Environment(); err == nil || b != "" || !strings.Contains(err.Error(), EnvBackend) {
		t.Errorf("a name that is none gives %q, %v", b, err)
	}
}
