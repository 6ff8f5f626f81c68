package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestFunctionNumbers compares the numbers of the kernel's side with those here.
func TestFunctionNumbers(t *testing.T) {
	for _, c := range []struct {
		name       string
		kernel, us uint32
	}{
		{"write", uint32(fentryCalledCALLED_WRITE), uint32(APIWrite)},
		{"writev", uint32(fentryCalledCALLED_WRITEV), uint32(APIWritev)},
		{"sendfile", uint32(fentryCalledCALLED_SENDFILE), uint32(APISendfile)},
		{"splice", uint32(fentryCalledCALLED_SPLICE), uint32(APISplice)},
		{"vmsplice", uint32(fentryCalledCALLED_VMSPLICE), uint32(APIVmsplice)},
		{"zerocopy", uint32(fentryCalledCALLED_ZEROCOPY), uint32(APIZeroCopy)},
		{"uring send", uint32(fentryCalledCALLED_URING_SEND), uint32(APIUringSend)},
		{"uring zc", uint32(fentryCalledCALLED_URING_ZC), uint32(APIUringSendZC)},
		{"uring fixed", uint32(fentryCalledCALLED_URING_ZC_FIXED), uint32(APIUringSendZCFixed)},
		{"linear", uint32(fentryLiesLIES_LINEAR), uint32(memoryLinear)},
		{"kernel", uint32(fentryLiesLIES_KERNEL), uint32(memoryKernel)},
		{"user", uint32(fentryLiesLIES_USER), uint32(memoryUser)},
		{"cache", uint32(fentryLiesLIES_CACHE), uint32(memoryCache)},
		{"device", uint32(fentryLiesLIES_DEVICE), uint32(memoryDevice)},
		{"sent", uint32(fentryFactKindFACT_SENT), uint32(factSent)},
		{"unsent", uint32(fentryFactKindFACT_UNSENT), uint32(factUnsent)},
		{"datagram", uint32(fentryFactKindFACT_DATAGRAM), uint32(factDatagram)},
		{"segment", uint32(fentryFactKindFACT_SEGMENT), uint32(factSegment)},
		{"summed", uint32(fentryFactKindFACT_SUMMED), uint32(factSummed)},
		{"linearize", uint32(fentryFactKindFACT_LINEARIZE), uint32(factLinearize)},
		{"tapped", uint32(fentryFactKindFACT_TAPPED), uint32(factTapped)},
		{"private", uint32(fentryFactKindFACT_PRIVATE), uint32(factPrivate)},
		{"pass", uint32(fentryFactKindFACT_PASS), uint32(factPass)},
		{"xdp", uint32(fentryFactKindFACT_XDP), uint32(factXDP)},
		{"tun", uint32(fentryFactKindFACT_TUN), uint32(factTun)},
		{"whole", uint32(fentryFactKindFACT_WHOLE), uint32(factWhole)},
		{"header", uint32(fentryFactKindFACT_HEADER), uint32(factHeader)},
		{"from cache", uint32(fentrySawFROM_CACHE), uint32(sourceCache)},
		{"from read", uint32(fentrySawFROM_READ), uint32(sourceRead)},
		{"from written", uint32(fentrySawFROM_WRITTEN), uint32(sourceWritten)},
		{"from socket", uint32(fentrySawFROM_SOCKET), uint32(sourceSocket)},
		{"from user", uint32(fentrySawFROM_USER), uint32(sourceUser)},
		{"from direct", uint32(fentrySawFROM_DIRECT), uint32(sourceDirect)},
		{"from memory", uint32(fentrySawFROM_MEMORY), uint32(sourceMemory)},
		{"no SO_ZEROCOPY", uint32(fentrySawSAW_NO_SO_ZEROCOPY), uint32(seenNoSOZeroCopy)},
		{"fragment", uint32(fentrySawSAW_FRAGMENT), uint32(seenFragment)},
		{"no sg", uint32(fentrySawSAW_NO_SG), uint32(seenNoSG)},
		{"no csum", uint32(fentrySawSAW_NO_CSUM), uint32(seenNoChecksum)},
		{"partial", uint32(fentrySawSAW_PARTIAL), uint32(seenPartial)},
		{"lent", uint32(fentrySawSAW_LENT), uint32(seenLent)},
		{"tap in", uint32(fentrySawSAW_TAP_IN), uint32(seenTapIn)},
		{"encap", uint32(fentrySawSAW_ENCAP), uint32(seenEncap)},
		{"ulp", uint32(fentrySawSAW_ULP), uint32(seenULP)},
		{"loopback", uint32(fentrySawSAW_LOOPBACK), uint32(seenLoopback)},
		{"forwarding", uint32(fentrySawSAW_FORWARDING), uint32(seenForwarding)},
		{"corked", uint32(fentrySawSAW_CORKED), uint32(seenCorked)},
		{"local", uint32(fentrySawSAW_LOCAL), uint32(seenLocal)},
	} {
		if c.kernel != c.us {
			t.Errorf("%s is %d in the kernel, %d here", c.name, c.kernel, c.us)
		}
	}
}

// TestFunctionHooks: each program has a hook, and each hook a program; the same
// in both tiers.
func TestFunctionHooks(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"fentry": loadFentry, "kprobe": loadKprobe} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range functions() {
			if spec.Programs[f.Name] == nil {
				t.Errorf("%s: hook %s has no program", name, f.Name)
			}
			delete(spec.Programs, f.Name)
		}
		delete(spec.Programs, "snapshot") // which hooks nothing
		for program := range spec.Programs {
			t.Errorf("%s: program %s has no hook", name, program)
		}
	}
}

// TestRefusals: a machine without a tier says so, and takes the next.
func TestRefusals(t *testing.T) {
	tracer, err := Open(t.Context(), Options{})
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	want := Tiers()
	for _, r := range tracer.Refused() {
		if r.Tier != want[0] || !errors.Is(r.Err, errors.ErrUnsupported) && !errors.Is(r.Err, fs.ErrPermission) {
			t.Errorf("%v: %v", r.Tier, r.Err)
		}
		t.Log(r)
		want = want[1:]
	}
	if tracer.Tier() != want[0] {
		t.Errorf("tier %s, not %s", tracer.Tier(), want[0])
	}
}

// TestGuestRefusedTiers: in guests that are made so, the tiers of functions are refused
// for a reason, which is said.
func TestGuestRefusedTiers(t *testing.T) {
	testenv.Guest(t)
	want, ok := map[string]struct {
		is   error
		says string
	}{
		"confidentiality": {fs.ErrPermission, "locked down (confidentiality)"},
		"user":            {fs.ErrPermission, "CAP_BPF"},
		"no types":        {errors.ErrUnsupported, "type information of the kernel"},
	}[os.Getenv("ZCPROBE_REFUSED")]
	if !ok {
		t.Skip("needs a guest made by internal/guest")
	}
	for _, tier := range []Tier{TierFentry, TierKprobe} {
		_, err := Open(t.Context(), Options{Tier: tier})
		if !errors.Is(err, want.is) || !strings.Contains(fmt.Sprint(err), want.says) {
			t.Errorf("%s: %v", tier, err)
		} else {
			t.Log(err)
		}
	}
	// Without BPF, something is seen all the same.
	tracer, err := Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	if len(tracer.Refused()) == 0 || tracer.Tier() == TierFentry || tracer.Tier() == TierKprobe {
		t.Errorf("tier %s, refused: %v", tracer.Tier(), tracer.Refused())
	}
}
