package text

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		name, in, utf8, ascii string
	}{
		{"plain", "eth0", "eth0", "eth0"},
		{"terminal sequence", "a\x1b[2Jb", `a\x1b[2Jb`, `a\x1b[2Jb`},
		{"newline", "x\ny\tz\r", `x\ny\tz\x0d`, `x\ny\tz\x0d`},
		{"delete", "\x7f", `\x7f`, `\x7f`},
		{"C1 control", "\u009b2J", `\u009b2J`, `\u009b2J`},
		{"bidi override", "a\u202eb", `a\u202eb`, `a\u202eb`},
		{"zero width", "a\u200bb", `a\u200bb`, `a\u200bb`},
		{"combining", "a\u0301", `a\u0301`, `a\u0301`},
		{"line separator", "a\u2028b", `a\u2028b`, `a\u2028b`},
		{"tag character", "\U000e0041", `\U000e0041`, `\U000e0041`},
		{"not UTF-8", "a\xffb\xc3", `a\xffb\xc3`, `a\xffb\xc3`},
		{"letters", "größe", "größe", `gr\u00f6\u00dfe`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Escape(c.in, false); got != c.utf8 {
				t.Errorf("Escape(%q, utf8) = %q, want %q", c.in, got, c.utf8)
			}
			if got := Escape(c.in, true); got != c.ascii {
				t.Errorf("Escape(%q, ascii) = %q, want %q", c.in, got, c.ascii)
			}
		})
	}
}

// printed is what f writes, and fails the test if a line is too wide, ends in
// a blank or holds anything a terminal would act on.
func printed(t *testing.T, width int, f func(*Printer)) string {
	t.Helper()
	var b strings.Builder
	p := New(&b)
	p.Width = width
	p.UTF8 = true
	f(p)
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(b.String()) {
		l = strings.TrimSuffix(l, "\n")
		if columns(l) > width {
			t.Errorf("%d columns of %d: %q", columns(l), width, l)
		}
		if strings.HasSuffix(l, " ") {
			t.Errorf("ends in a blank: %q", l)
		}
		if needsEscape(l, false) {
			t.Errorf("not escaped: %q", l)
		}
	}
	return b.String()
}

func TestPara(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
	}{
		{"fits", "one two", "  one two\n"},
		{"wraps", "one two three four five", "  one two three four\n    five\n"},
		{"cuts a long word", "a 0123456789012345678901234567", "  a\n    0123456789012345\n    678901234567\n"},
		{"wide characters", "漢字漢字 漢字漢字漢字", "  漢字漢字\n    漢字漢字漢字\n"},
		{"nothing", "", "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := printed(t, 20, func(p *Printer) { p.Para(2, 4, S(c.in)) })
			if got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestParaKeepsStylesApart(t *testing.T) {
	var b strings.Builder
	p := New(&b)
	p.Color = true
	p.Para(0, 0, Span{"FAIL", Bad}, S("  the rest"), S(", joined"))
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1;31mFAIL\x1b[0m the rest, joined\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestCommandIsContinuedForTheShell(t *testing.T) {
	got := printed(t, 40, func(p *Printer) {
		p.Command(2, 7, S("fix: "), "sysctl -w net.core.optmem_max=131072 'a b c d e f' && echo done and done")
	})
	want := "  fix: sysctl -w \\\n" +
		"         net.core.optmem_max=131072 \\\n" +
		"         'a b c d e f' && echo done \\\n" +
		"         and done\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTable(t *testing.T) {
	got := printed(t, 55, func(p *Printer) {
		p.Table(2, []string{"name", "kind", "detail"}, [][]Span{
			{S("eth0"), S("physical"), S("all is well with this one, and it says so at length")},
			{S("lo"), S(""), S("")},
			{S(strings.Repeat("\x1b", 15)), S("veth"), S("a name made of escapes")},
		})
	})
	want := `  name                        kind
      detail
  eth0                        physical
      all is well with this one, and it says so at
      length
  lo
  \x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\
  x1b\x1b                     veth
      a name made of escapes
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	got = printed(t, 60, func(p *Printer) {
		p.Table(0, nil, [][]Span{
			{S("eth0"), S("on"), S("the last column wraps where it starts, however long it gets")},
			{S("longer"), S(""), S("x")},
		})
	})
	want = `eth0    on  the last column wraps where it starts, however
            long it gets
longer      x
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no space")

func TestFlushReturnsTheFirstError(t *testing.T) {
	p := New(fullDisk{})
	for range 1000 {
		p.Line(0, S("a line that fills the buffer sooner or later"))
	}
	if err := p.Flush(); !errors.Is(err, errFull) {
		t.Errorf("Flush = %v, want %v", err, errFull)
	}
}

func FuzzPara(f *testing.F) {
	f.Add("plain words", uint8(20))
	f.Add("\x1b[31mred\u202e\xff", uint8(9))
	f.Add("漢字 a b  c", uint8(8))
	f.Fuzz(func(t *testing.T, s string, w uint8) {
		width := int(w%100) + 14
		got := printed(t, width, func(p *Printer) {
			p.Para(2, 4, S(s))
			p.Table(1, nil, [][]Span{{S(s), S(s)}, {S("x"), S(s)}})
		})
		if !utf8.ValidString(got) {
			t.Errorf("not UTF-8: %q", got)
		}
	})
}
