package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

const statBefore = "cpu  1000 10 2000 50000 100 5 45 0 0 0\ncpu0 1 2 3\n"

func TestParseCPUTimes(t *testing.T) {
	got, err := parseCPUTimes(statBefore)
	if want := (cpuTimes{busy: 3060, idle: 50100}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := parseCPUTimes("cpu 1 1 1 1 1 1 1 7 3 3"); err != nil || got.steal != 7 || got.busy != 5 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu a b c d e f g h", "cpu -1 2 3 4 5 6 7 8"} {
		if got, err := parseCPUTimes(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// Disturbance is told, and a quiet machine is not accused of it.
func TestSentences(t *testing.T) {
	quiet := noise{known: true, tick: userHZ, before: cpuTimes{busy: 100, idle: 100}, after: cpuTimes{busy: 1100, idle: 1100},
		own: 9900 * time.Millisecond, least: 100 * time.Microsecond, most: 105 * time.Microsecond, wide: 1, all: 10}
	for _, c := range []struct {
		name   string
		change func(*noise)
		want   string // "" for nothing
	}{
		{"quiet", func(*noise) {}, ""},
		{"nothing known", func(n *noise) { *n = noise{} }, ""},
		{"others", func(n *noise) { n.own = 5 * time.Second }, "Other processes used 25 %"},
		{"steal", func(n *noise) { n.after.steal = 100 }, "took 5 % of the CPUs away"},
		{"clock", func(n *noise) { n.most = 150 * time.Microsecond }, "took 100µs to 150µs"},
		{"spread", func(n *noise) { n.wide = 6 }, "6 of 10 results"},
		{"one CPU", func(n *noise) { n.oneCPU = true }, "one CPU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := quiet
			c.change(&n)
			got := strings.Join(n.sentences(), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzParseCPUTimes(f *testing.F) {
	f.Add(statBefore)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseCPUTimes(text); err != nil && got != (cpuTimes{}) {
			t.Errorf("both %+v and %v", got, err)
		}
	})
}

func TestPlan(t *testing.T) {
	for _, o := range []Options{{}, {Quick: true}, {To: "h:1", Address: "192.0.2.1:1"}} {
		r, err := Plan(o)
		if err != nil || !r.DryRun || len(r.Would) < 3 || r.Results == nil || r.Crossovers == nil {
			t.Errorf("%+v: %+v, %v", o, r, err)
		}
		if strings.Contains(strings.Join(r.Would, "\n"), "namespaces") != (o.To == "") {
			t.Errorf("%+v: %q", o, r.Would)
		}
	}
	for _, o := range []Options{{Sizes: []int64{0}}, {Sizes: []int64{1, MostBytes + 1}}, {Backends: nil, Sizes: []int64{-1}}} {
		if r, err := Plan(o); err == nil {
			t.Errorf("%+v: %+v", o, r)
		}
	}
}

// A pair is measured with what it is compared to, and nothing else.
func TestGroups(t *testing.T) {
	o := Options{Backends: []transmit.Backend{"msg_zerocopy"}}
	gs := o.groups()
	if len(gs) != 1 || len(gs[0].ways) != 2 || gs[0].ways[0] != "write" || len(gs[0].pairs) != 1 {
		t.Errorf("%+v", gs)
	}
	if gs := (&Options{To: "x"}).groups(); len(gs) != 2 {
		t.Errorf("%d groups over a path", len(gs))
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Add("0")
	f.Add("1-0,,65536-65537")
	f.Fuzz(func(t *testing.T, list string) {
		got, err := parseCPUs(list)
		if err != nil && got != nil || err == nil && len(got) == 0 {
			t.Errorf("%q: %v and %v", list, got, err)
		}
		for _, n := range got {
			if n < 0 || n > mostCPUs {
				t.Errorf("%q: CPU %d", list, n)
			}
		}
	})
}
