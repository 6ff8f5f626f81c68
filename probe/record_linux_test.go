package probe

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

const (
	secretV4   = "10.66.77.88"
	secretGate = "10.66.77.1"
	secretV6   = "2600:66:77::88"
	secretMAC  = "02:66:77:88:99:aa"
	secretHost = "payroll.corp.example"
)

// secretFacts are those of a namespace with known addresses, and of a
// directory and destinations with known names.
func secretFacts(t *testing.T) (f *Facts, o Options, secrets []string) {
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "add", "va", "address", secretMAC, "type", "veth", "peer", "name", "vb")
	for _, dev := range []string{"va", "vb"} {
		ns.Run("ip", "link", "set", dev, "up")
	}
	ns.Run("ip", "addr", "add", secretV4+"/24", "dev", "va")
	ns.Run("ip", "-6", "addr", "add", secretV6+"/64", "dev", "va", "nodad")
	ns.Run("ip", "route", "add", "default", "via", secretGate)
	ns.Run("ip", "link", "add", "vx0", "type", "vxlan", "id", "5", "local", secretV4, "remote", secretGate, "dstport", "4789")
	dir := filepath.Join(t.TempDir(), "ledger-2031")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "q3.csv"), bytes.Repeat([]byte("x"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	o = Options{To: "10.99.88.77:443", From: secretV4, Dir: dir}
	ns.Do(func() {
		var err error
		if f, err = Collect(t.Context(), o); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	// What a resolver or a file system would have said.
	f.Paths = append(f.Paths, PathQuery{
		Asked: secretHost + ":9000", Host: secretHost, Port: 9000, Addr: secretV6,
		Error: "lookup " + secretHost + " on " + secretGate + ":53: no such host",
	})
	f.Host.Errors = append(f.Host.Errors, "read "+dir+"/q3.csv: permission denied", "neighbour "+secretMAC+" at "+secretV6)
	return f, o, []string{secretV4, secretGate, secretV6, "10.99.88.77", secretMAC, secretHost, dir, "q3.csv"}
}

// spellings are the ways in which a secret is usually written.
func spellings(secret string) []string {
	all := []string{secret, strings.ToUpper(secret)}
	digits := ""
	if a, err := netip.ParseAddr(secret); err == nil {
		digits = hex.EncodeToString(a.AsSlice())
		all = append(all, a.StringExpanded())
	} else if strings.Count(secret, ":") == 5 {
		digits = strings.ReplaceAll(secret, ":", "")
		all = append(all, strings.ReplaceAll(secret, ":", "-"))
	}
	if digits != "" {
		var pairs []string
		for i := 0; i < len(digits); i += 2 {
			pairs = append(pairs, digits[i:i+2])
		}
		all = append(all, digits, strings.ToUpper(digits), strings.Join(pairs, ":"))
	}
	return all
}

func recordText(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	for _, p := range recordParts {
		b, err := os.ReadFile(filepath.Join(dir, p.file))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

func TestRecordHoldsNoAddress(t *testing.T) {
	f, _, secrets := secretFacts(t)
	plain, dir := filepath.Join(t.TempDir(), "plain"), filepath.Join(t.TempDir(), "r")
	mustWrite(t, plain, f, RecordOptions{WithAddresses: true})
	mustWrite(t, dir, f, RecordOptions{})
	with, without := recordText(t, plain), recordText(t, dir)
	for _, s := range secrets {
		if !strings.Contains(with, s) {
			t.Errorf("the facts do not hold %s, so its absence proves nothing", s)
		}
		for _, form := range spellings(s) {
			if i := strings.Index(without, form); i >= 0 {
				t.Errorf("the record holds %s: …%s…", form, without[max(0, i-60):min(len(without), i+60)])
			}
		}
	}
	// The hardware address of the other end was chosen by the kernel.
	for _, l := range f.Networks[0].Links {
		if l.MAC != "" && l.Name != "lo" && strings.Contains(without, l.MAC) {
			t.Errorf("the record holds the address %s of %s", l.MAC, l.Name)
		}
	}
}

// The report made from a record is the live one, byte for byte.
func TestReplayEqualsLive(t *testing.T) {
	f, o, secrets := secretFacts(t)
	compareReplays(t, f, o, secrets)
}

// The same on this host itself, as whoever runs the test.
func TestReplayOfThisHost(t *testing.T) {
	o := Options{To: "localhost"}
	f, err := Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	compareReplays(t, f, o, nil)
}

func TestGuestReplay(t *testing.T) {
	testenv.Guest(t)
	o := Options{To: "10.0.10.100:9"}
	f, err := Collect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	compareReplays(t, f, o, []string{"10.0.10.100", "10.0.10.15", "10.0.11.15"})
}

// compareReplays compares what is judged of facts with what is judged of two
// records of them. Without addresses the replay has each secret's pseudonym.
func compareReplays(t *testing.T, f *Facts, o Options, secrets []string) {
	t.Helper()
	live := jsonOf(t, Judge(f, o))
	for _, with := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "r")
		mustWrite(t, dir, f, RecordOptions{WithAddresses: with})
		r, err := OpenRecord(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := live
		for _, s := range secrets {
			if to, ok := r.PseudonymOf(s); ok && !strings.HasSuffix(s, ".csv") {
				want = strings.ReplaceAll(want, s, to)
			}
		}
		there, err := r.Options(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := jsonOf(t, Judge(r.Facts, there)); got != want {
			t.Errorf("with addresses %v the replay differs from the live report: %s", with, firstDifference(got, want))
		}
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "\n got " + strings.Join(a[max(0, i-2):i+1], "\n     ") + "\nwant " + strings.Join(b[max(0, i-2):i+1], "\n     ")
		}
	}
	return "one is longer"
}
