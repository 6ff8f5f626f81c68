package probe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// forgetKernel empties the cache for one test.
func forgetKernel(t testing.TB) {
	before := kernelCache.Swap(nil)
	t.Cleanup(func() { kernelCache.Store(before) })
}

func TestKernelKnowsWhatSendingNeeds(t *testing.T) {
	forgetKernel(t)
	k, err := Kernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range kernelChoice() {
		if f, ok := k.Feature(id); !ok || f.Status != k.Status(id) || f.Detail == "" {
			t.Errorf("%s: %+v, %v", id, f, ok)
		}
	}
	if k.Status("packet_tx_ring") != UnknownFeature {
		t.Error("a feature nobody asked for has a state")
	}
	if v, ok := k.Seen("sendfile.tcp", "received_bytes"); !ok || v != testSize {
		t.Errorf("sendfile.tcp received %d, %v", v, ok)
	}
	if _, ok := k.Seen("no.such", "bytes"); ok {
		t.Error("a feature that does not exist was seen")
	}
	var ids []string
	for f := range k.All() {
		ids = append(ids, f.ID)
	}
	if !slices.IsSorted(ids) || len(ids) != len(kernelChoice()) {
		t.Errorf("got %q", ids)
	}
}

// Only what the tests here call a plain yes or no is kept; the rest is tried
// again, and a call that asks for one feature finds nothing stale about others.
func TestKernelKeepsCertaintiesOnly(t *testing.T) {
	forgetKernel(t)
	first, err := Kernel(t.Context(), "tee", "msg_zerocopy.vsock", "devmem.tx")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Kernel(t.Context(), "tee")
	if err != nil {
		t.Fatal(err)
	}
	if again.Status("tee") != first.Status("tee") {
		t.Errorf("tee was %s, is %s", first.Status("tee"), again.Status("tee"))
	}
	if _, ok := again.Feature("devmem.tx"); ok {
		t.Error("an answer that hangs on the devices was kept")
	}
	if _, ok := again.Feature("msg_zerocopy.vsock"); ok != (first.Status("msg_zerocopy.vsock") != UnknownFeature) {
		t.Errorf("vsock was %s, kept %v", first.Status("msg_zerocopy.vsock"), ok)
	}
}

// In a namespace whose loopback is down nothing can be tried, and none of that
// may stick.
func TestKernelForgetsFailures(t *testing.T) {
	ns := testenv.NewNetNS(t)
	forgetKernel(t)
	ns.Run("ip", "link", "set", "lo", "down")
	ns.Do(func() {
		k, err := Kernel(context.Background(), "sendfile.tcp", "tee")
		if err != nil || k.Status("sendfile.tcp") != UnknownFeature || k.Status("tee") != Supported {
			t.Errorf("loopback down: %v, %v", k, err)
		}
	})
	ns.Run("ip", "link", "set", "lo", "up")
	ns.Do(func() {
		k, err := Kernel(context.Background(), "sendfile.tcp")
		if err != nil || k.Status("sendfile.tcp") != Supported {
			t.Errorf("loopback up: %v, %v", k, err)
		}
	})
}

func TestKernelErrors(t *testing.T) {
	forgetKernel(t)
	if _, err := Kernel(t.Context(), "tee", "no.such"); err == nil {
		t.Error("an id that does not exist was accepted")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := Kernel(ctx); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if kernelCache.Load() != nil {
		t.Error("a probe that failed left something in the cache")
	}
}

func TestKernelConcurrently(t *testing.T) {
	forgetKernel(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if k, err := Kernel(context.Background(), "tee", "vmsplice"); err != nil || k.Status("tee") != Supported {
				t.Errorf("%v, %v", k, err)
			}
		})
	}
	wg.Wait()
}

func TestKernelCachedAllocatesNothing(t *testing.T) {
	forgetKernel(t)
	if _, err := Kernel(t.Context(), "tee", "sendfile.tcp"); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		k, err := Kernel(context.Background(), "tee", "sendfile.tcp")
		if err != nil || k.Status("tee") != Supported {
			t.Fail()
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKernelCold(b *testing.B) {
	forgetKernel(b)
	b.ReportAllocs()
	for b.Loop() {
		kernelCache.Store(nil)
		if _, err := Kernel(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKernelCached(b *testing.B) {
	forgetKernel(b)
	if _, err := Kernel(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k, err := Kernel(b.Context())
			if err != nil || k.Status("msg_zerocopy.tcp4") != Supported {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k, err := Kernel(b.Context(), "msg_zerocopy.tcp4")
			if err != nil || k.Status("msg_zerocopy.tcp4") != Supported {
				b.Fatal(err)
			}
		}
	})
}
