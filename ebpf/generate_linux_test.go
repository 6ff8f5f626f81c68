package ebpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/bpfobject"
	"github.com/zcprobe/zcprobe/internal/testenv"

	cilium "github.com/cilium/ebpf"
)

// TestGenerated builds what `go generate` built, and compares.
func TestGenerated(t *testing.T) {
	clang := testenv.Tool(t, "clang-14")
	testenv.Tool(t, "llvm-strip-14")
	if out, err := exec.Command(clang, "--version").Output(); err != nil || !bytes.Contains(out, []byte(" 14.0.6")) {
		t.Skipf("needs clang 14.0.6: %s, %v", bytes.TrimSpace(out), err)
	}
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	directives := strings.Split(string(source), "//go:generate ")[1:]
	if len(directives) == 0 {
		t.Fatal("generate.go has no directive")
	}
	for _, line := range directives {
		line, _, _ = strings.Cut(line, "\n")
		checkGenerated(t, words(line))
	}
}

// checkGenerated runs one directive, whose last words are a name and a source.
func checkGenerated(t *testing.T, args []string) {
	t.Helper()
	dir, stem := t.TempDir(), args[len(args)-2]
	args = append(args[1:3:3], append([]string{"-output-dir", dir, "-go-package", "ebpf"}, args[3:]...)...)
	if out, err := exec.Command(testenv.Tool(t, "go"), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, suffix := range []string{"_x86_bpfel.go", "_x86_bpfel.o.gz", "_arm64_bpfel.go", "_arm64_bpfel.o.gz"} {
		if !bytes.Equal(generated(t, stem+suffix), generated(t, filepath.Join(dir, stem+suffix))) {
			t.Errorf("%s is not what its source makes: run go generate ./ebpf", stem+suffix)
		}
	}
}

// generated returns what a file holds. Versions of Go may compress differently.
func generated(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil && strings.HasSuffix(name, ".gz") {
		b, err = bpfobject.Unpack(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// words splits a command line at spaces outside double quotes.
func words(line string) []string {
	quoted := false
	fields := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i := range fields {
		fields[i] = strings.Trim(fields[i], `"`)
	}
	return fields
}

// TestNumbers compares the numbers of the kernel's side with those here.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		name       string
		kernel, us uint32
	}{
		{"write", uint32(traceApiAPI_WRITE), uint32(APIWrite)},
		{"writev", uint32(traceApiAPI_WRITEV), uint32(APIWritev)},
		{"sendfile", uint32(traceApiAPI_SENDFILE), uint32(APISendfile)},
		{"splice", uint32(traceApiAPI_SPLICE), uint32(APISplice)},
		{"vmsplice", uint32(traceApiAPI_VMSPLICE), uint32(APIVmsplice)},
		{"zerocopy", uint32(traceApiAPI_ZEROCOPY), uint32(APIZeroCopy)},
		{"uring send", uint32(traceApiAPI_URING_SEND), uint32(APIUringSend)},
		{"uring zc", uint32(traceApiAPI_URING_ZC), uint32(APIUringSendZC)},
		{"uring fixed", uint32(traceApiAPI_URING_ZC_FIXED), uint32(APIUringSendZCFixed)},
		{"linear", uint32(traceClassCLASS_LINEAR), uint32(memoryLinear)},
		{"kernel", uint32(traceClassCLASS_KERNEL), uint32(memoryKernel)},
		{"user", uint32(traceClassCLASS_USER), uint32(memoryUser)},
		{"cache", uint32(traceClassCLASS_CACHE), uint32(memoryCache)},
		{"device", uint32(traceClassCLASS_DEVICE), uint32(memoryDevice)},
		{"sent", uint32(traceKindKIND_SENT), uint32(placeSent)},
		{"queued", uint32(traceKindKIND_QUEUED), uint32(placeQueued)},
		{"door", uint32(traceKindKIND_DOOR), uint32(placeDoor)},
		{"lower", uint32(traceKindKIND_LOWER), uint32(placeLower)},
		{"after", uint32(traceKindKIND_AFTER), uint32(placeAfter)},
		{"again", uint32(traceKindKIND_AGAIN), uint32(placeAgain)},
		{"absorbed", uint32(traceKindKIND_ABSORBED), uint32(placeAbsorbed)},
		{"under way", uint32(traceKindKIND_UNDER_WAY), uint32(placeUnderWay)},
		{"source cache", uint32(traceEvidenceSOURCE_CACHE), uint32(sourceCache)},
		{"source read", uint32(traceEvidenceSOURCE_READ), uint32(sourceRead)},
		{"source written", uint32(traceEvidenceSOURCE_WRITTEN), uint32(sourceWritten)},
		{"source socket", uint32(traceEvidenceSOURCE_SOCKET), uint32(sourceSocket)},
		{"source user", uint32(traceEvidenceSOURCE_USER), uint32(sourceUser)},
		{"source direct", uint32(traceEvidenceSOURCE_DIRECT), uint32(sourceDirect)},
		{"source memory", uint32(traceEvidenceSOURCE_MEMORY), uint32(sourceMemory)},
		{"opening", uint32(traceEvidenceSEEN_OPENING), uint32(seenOpening)},
		{"stamp", uint32(traceEvidenceSEEN_STAMP), uint32(seenStamp)},
		{"stamped", uint32(traceEvidenceSEEN_STAMPED), uint32(seenStamped)},
		{"tap further on", uint32(traceEvidenceSEEN_TAP_OUT), uint32(seenTapOut)},
		{"no SO_ZEROCOPY", uint32(traceEvidenceSEEN_NO_SO_ZEROCOPY), uint32(seenNoSOZeroCopy)},
		{"fragment", uint32(traceEvidenceSEEN_FRAGMENT), uint32(seenFragment)},
		{"no sg", uint32(traceEvidenceSEEN_NO_SG), uint32(seenNoSG)},
		{"no csum", uint32(traceEvidenceSEEN_NO_CSUM), uint32(seenNoChecksum)},
		{"partial", uint32(traceEvidenceSEEN_PARTIAL), uint32(seenPartial)},
		{"gso", uint32(traceEvidenceSEEN_GSO), uint32(seenGSO)},
		{"lent", uint32(traceEvidenceSEEN_LENT), uint32(seenLent)},
		{"tap", uint32(traceEvidenceSEEN_TAP), uint32(seenTap)},
		{"tap in", uint32(traceEvidenceSEEN_TAP_IN), uint32(seenTapIn)},
		{"encap", uint32(traceEvidenceSEEN_ENCAP), uint32(seenEncap)},
		{"ulp", uint32(traceEvidenceSEEN_ULP), uint32(seenULP)},
		{"received", uint32(traceEvidenceSEEN_RECEIVED), uint32(seenReceived)},
		{"loopback", uint32(traceEvidenceSEEN_LOOPBACK), uint32(seenLoopback)},
		{"xdp", uint32(traceEvidenceSEEN_XDP), uint32(seenXDP)},
		{"met socket", uint32(traceEvidenceMET_SOCKET), uint32(metSocket)},
		{"met reader", uint32(traceEvidenceMET_READER), uint32(metReader)},
		{"met freed", uint32(traceEvidenceMET_FREED), uint32(metFreed)},
		{"met dropped", uint32(traceEvidenceMET_DROPPED), uint32(metDropped)},
		{"met queue", uint32(traceEvidenceMET_QUEUE), uint32(metQueue)},
		{"sampled", uint32(traceEvidenceSEEN_SAMPLED), uint32(seenSampled)},
		{"corked", uint32(traceEvidenceSEEN_CORKED), uint32(seenCorked)},
		{"met mask", uint32(traceEvidenceMET_MASK), uint32(metMask)},
	} {
		if c.kernel != c.us {
			t.Errorf("%s is %d in the kernel, %d here", c.name, c.kernel, c.us)
		}
	}
}

// TestCallNumbers does the same for diagnosis.
func TestCallNumbers(t *testing.T) {
	for _, c := range []struct {
		name       string
		kernel, us uint32
	}{
		{"loop", uint32(callsPatternPATTERN_LOOP), uint32(patternLoop)},
		{"refused", uint32(callsPatternPATTERN_REFUSED), uint32(patternRefused)},
		{"fell back", uint32(callsPatternPATTERN_FELL_BACK), uint32(patternFellBack)},
		{"zerocopy", uint32(callsPatternPATTERN_ZEROCOPY), uint32(patternZeroCopy)},
		{"no option", uint32(callsPatternPATTERN_NO_OPTION), uint32(patternNoOption)},
		{"no buffers", uint32(callsPatternPATTERN_NO_BUFFERS), uint32(patternNoBuffers)},
		{"no pages", uint32(callsPatternPATTERN_NO_PAGES), uint32(patternNoPages)},
		{"header", uint32(callsPatternPATTERN_HEADER), uint32(patternHeader)},
		{"splice", uint32(callsPatternPATTERN_SPLICE), uint32(patternSplice)},
		{"send pages", uint32(callsPatternPATTERN_SEND_PAGES), uint32(patternSendPages)},
		{"other", uint32(callsPartyKindPARTY_OTHER), uint32(partyOther)},
		{"file", uint32(callsPartyKindPARTY_FILE), uint32(partyFile)},
		{"pipe", uint32(callsPartyKindPARTY_PIPE), uint32(partyPipe)},
		{"tcp", uint32(callsPartyKindPARTY_TCP), uint32(partyTCP)},
		{"udp", uint32(callsPartyKindPARTY_UDP), uint32(partyUDP)},
		{"unix", uint32(callsPartyKindPARTY_UNIX), uint32(partyUnix)},
	} {
		if c.kernel != c.us {
			t.Errorf("%s is %d in the kernel, %d here", c.name, c.kernel, c.us)
		}
	}
}

// TestHooks: each program has a hook, and each hook a program.
func TestHooks(t *testing.T) {
	spec, err := loadTrace()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range tracepoints() {
		if spec.Programs[h.Name] == nil {
			t.Errorf("hook %s has no program", h.Name)
		}
		delete(spec.Programs, h.Name)
		delete(spec.Programs, h.instead)
	}
	for name, p := range spec.Programs {
		if p.AttachType != cilium.AttachTraceIter {
			t.Errorf("program %s has no hook", name)
		}
	}
}

func FuzzSymbols(f *testing.F) {
	f.Add([]byte("ffffffff816c8ea0 t anon_pipe_buf_release\nffffffff81e64d90 t validate_xmit_skb.isra.0\n"))
	f.Add([]byte("0000000000000000 T x\t[veth]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var all []symbol
		hidden, err := readSymbols(bytes.NewReader(raw), func(name []byte, address uint64) bool {
			all = append(all, symbol{address, string(name)})
			return true
		})
		if err != nil {
			return
		}
		for _, s := range all {
			if hidden && s.address != 0 || strings.ContainsAny(s.name, "\t\n") {
				t.Errorf("%+v of %q", s, raw)
			}
		}
	})
}
