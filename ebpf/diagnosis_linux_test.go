package ebpf_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
)

// advised returns the advice about one process; 0 is this one.
func advised(t testing.TB, tracer *ebpf.Tracer, pid int) map[string]ebpf.Advice {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s, err := tracer.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if pid == 0 {
		pid = os.Getpid()
	}
	out := map[string]ebpf.Advice{}
	for _, a := range s.Advice {
		if a.PID == pid {
			out[a.ID] = a
		}
		if a.Text == "" || a.Remedy == "" || a.Kind == "" || len(a.Evidence) == 0 {
			t.Errorf("incomplete advice: %+v", a)
		}
	}
	raw, err := json.MarshalIndent(s.Advice, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("%s\n%+v\n%q", raw, s.Completions, s.Incomplete)
		}
	})
	return out
}

// expect checks that there is this advice and no other.
func expect(t testing.TB, got map[string]ebpf.Advice, want ...string) {
	t.Helper()
	var ids []string
	for id := range got {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("advice %v, not %v", ids, want)
	}
}

func TestAdviceNone(t *testing.T) {
	sink := newSink(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			tracer := open(t, ebpf.Options{Exact: true})
			c, err := sink.Dial(t.Context(), "tcp4")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			control(t, c, func(fd int) error { return w.send(fd, payload(4<<20), 64<<10) })
			sent(t, c)
			expect(t, advised(t, tracer, 0))
		})
	}
}
