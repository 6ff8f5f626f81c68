package guest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// allSeries are the kernels of the matrix, oldest first.
var allSeries = []string{"5.10", "6.1", "6.12", "6.18", "7.3"}

var updateMatrix = flag.Bool("update-matrix", false, "keep the results of the parts of the matrix that are run, and their table")

// untried are parts of the matrix of which nothing is recorded yet; their cells say so.
// Whoever runs them with -update-matrix takes them out.
var untried = []string{}

const (
	matrixFile  = "testdata/matrix.json"
	matrixTable = "MATRIX.md"
)

// A section is one table of the matrix: what is tried, on every kernel.
type section struct {
	id, title, text string
	rows            []string
	series          []string // kernels, oldest first
}

func sections() []section {
	var rows []string
	for _, c := range cards() {
		for _, s := range c.settings() {
			rows = append(rows, strings.TrimSpace(c.row()+" "+s.name))
		}
	}
	return []section{
		{"cards", "Network cards", "Each card is emulated by QEMU, as it is found and with features switched off. Root and an ordinary user " +
			"say the same of every feature as ethtool, and of every device as ip. What is sent over it by sendfile, splice, MSG_ZEROCOPY, " +
			"io_uring SEND_ZC and write arrives, and what is predicted, what completions report and what is observed agree with what is known of the card.", rows, allSeries},
		{"virtual", "Virtual devices", "Devices from the modules of each kernel, on a veth device whose other end is in another namespace. Root and an " +
			"ordinary user say the same of every feature as ethtool, of every device as ip, and of kernel TLS as the kernel's list. What is sent over them " +
			"by the same five APIs arrives, and what is predicted and observed agrees with what is known of the devices, as do completions but for those of wireguard, " +
			"which say anything.", virtualRows(), allSeries},
		{"tiers", "Ways to trace", "What a kernel that is locked down leaves to root and to an ordinary user: for each way to attach, `zcprobe probe` " +
			"says whether it can be had, and for each tier `zcprobe trace` either sees all that is sent over an e1000e, uncopied, or says why not.", tierRows(), allSeries},
		{"arm64", "arm64", "The program built for arm64, on such a machine: what it says, what arrives of what it sends, and what it observes.", arm64Rows(), []string{arm64Series}},
	}
}

// A record is what a guest has shown of a section.
type record struct {
	Date    string           `json:"date"`
	Release string           `json:"release"` // of the kernel
	Rows    map[string]*cell `json:"rows"`
}

// A cell is one row on one kernel. Nothing wrong is ever recorded.
type cell struct {
	Right  int      `json:"right"`            // checks that came out right
	Untold []string `json:"untold,omitempty"` // what cannot be told or tried there, and why
}

// A ledger keeps what a guest shows of a section.
type ledger struct {
	t       *testing.T
	id      string // section/series
	release string
	rows    map[string]*cell
}

func newLedger(t *testing.T, section, series, release string) *ledger {
	return &ledger{t: t, id: section + "/" + series, release: strings.TrimSpace(release), rows: map[string]*cell{}}
}

func (l *ledger) row(name string) *cell {
	if l.rows[name] == nil {
		l.rows[name] = &cell{}
	}
	return l.rows[name]
}

// right counts checks of a row that came out right.
func (l *ledger) right(row string, n int) { l.row(row).Right += n }

// untold keeps what could not be told.
func (l *ledger) untold(row, why string) {
	if c := l.row(row); !slices.Contains(c.Untold, why) {
		c.Untold = append(c.Untold, why)
	}
}

// close holds what was shown against the record, or keeps it as the record.
func (l *ledger) close() {
	if l.t.Failed() {
		return
	}
	all := readMatrix(l.t)
	if *updateMatrix {
		all[l.id] = &record{Date: time.Now().UTC().Format(time.DateOnly), Release: l.release, Rows: l.rows}
		writeMatrix(l.t, all)
		return
	}
	old := all[l.id]
	if old == nil && slices.Contains(untried, l.id) {
		return
	}
	if old == nil {
		l.t.Errorf("%s has no line for %s: run this with -update-matrix", matrixFile, l.id)
		return
	}
	for _, row := range slices.Sorted(maps.Keys(l.rows)) {
		was, is := old.Rows[row], l.rows[row]
		if was == nil || is.Right == 0 && was.Right > 0 || !slices.Equal(was.Untold, is.Untold) {
			l.t.Errorf("%s %s: recorded is %+v, and now it is %+v; if that is right, run this with -update-matrix", l.id, row, was, is)
		}
	}
}

func readMatrix(t *testing.T) map[string]*record {
	t.Helper()
	data, err := os.ReadFile(matrixFile)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*record{}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatalf("%s: %v", matrixFile, err)
	}
	return all
}

func writeMatrix(t *testing.T, all map[string]*record) {
	t.Helper()
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{matrixFile: append(data, '\n'), matrixTable: renderMatrix(all)} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// renderMatrix makes the table that people read.
func renderMatrix(all map[string]*record) []byte {
	var b bytes.Buffer
	b.WriteString("# What was tried, on which kernels\n\nMade by `ZCPROBE_GUESTS=full go test -timeout 2h ./internal/guest -update-matrix`; " +
		"a number is how many checks came out right, a letter what cannot be told there.\n")
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n|", s.title, s.text)
		for _, series := range s.series {
			fmt.Fprintf(&b, " | %s", series)
		}
		b.WriteString(" |\n|---" + strings.Repeat("|---", len(s.series)) + "|\n")
		var notes []string
		for _, row := range s.rows {
			fmt.Fprintf(&b, "| %s", row)
			for _, series := range s.series {
				b.WriteString(" | " + renderCell(all[s.id+"/"+series], row, &notes))
			}
			b.WriteString(" |\n")
		}
		b.WriteString("\n")
		for i, n := range notes {
			fmt.Fprintf(&b, "- %s: %s\n", letter(i), n)
		}
		for _, series := range s.series {
			if r := all[s.id+"/"+series]; r != nil {
				fmt.Fprintf(&b, "- %s is Debian's %s, tried on %s.\n", series, r.Release, r.Date)
			}
		}
	}
	return b.Bytes()
}

func letter(n int) string { return string(rune('a' + n)) }

// renderCell is one cell, whose reasons are added to the notes.
func renderCell(r *record, row string, notes *[]string) string {
	if r == nil || r.Rows[row] == nil {
		return "not tried"
	}
	c := r.Rows[row]
	parts := []string{fmt.Sprintf("right %d", c.Right)}
	if c.Right == 0 {
		parts = nil
	}
	for _, why := range c.Untold {
		if !slices.Contains(*notes, why) {
			*notes = append(*notes, why)
		}
		parts = append(parts, letter(slices.Index(*notes, why)))
	}
	return strings.Join(parts, ", ")
}

// TestMatrix holds the table in the tree against the definition of the matrix and the
// results it is made of.
func TestMatrix(t *testing.T) {
	all := readMatrix(t)
	if *updateMatrix {
		writeMatrix(t, all)
	}
	table, err := os.ReadFile(matrixTable)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(table, renderMatrix(all)) {
		t.Errorf("%s is not what %s gives", matrixTable, matrixFile)
	}
	known := map[string]bool{}
	for _, s := range sections() {
		for _, series := range s.series {
			id := s.id + "/" + series
			known[id] = true
			r := all[id]
			if (r == nil) != slices.Contains(untried, id) {
				t.Errorf("recorded of %s is %+v, and it is among what was not tried: %t", id, r, slices.Contains(untried, id))
			}
			if r == nil {
				continue
			}
			if got := slices.Sorted(maps.Keys(r.Rows)); !slices.Equal(got, slices.Sorted(slices.Values(s.rows))) {
				t.Errorf("%s: recorded are %q, defined are %q", id, got, s.rows)
			}
			for row, c := range r.Rows {
				if c.Right == 0 && len(c.Untold) == 0 {
					t.Errorf("%s %s: neither right nor a reason", id, row)
				}
			}
			if !strings.HasPrefix(r.Release, series+".") {
				t.Errorf("%s was tried on %s", id, r.Release)
			}
		}
	}
	for id := range all {
		if !known[id] {
			t.Errorf("%s is recorded, and no part of the matrix", id)
		}
	}
}
