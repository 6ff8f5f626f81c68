// Package manual makes manual pages of commands, from the same text as their help.
package manual

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// About is what a page says of the program as a whole.
type About struct {
	Version string
	Date    string // YYYY-MM-DD; "" where the build does not know it

	// More are sections for the page of the program itself, those of a command being
	// made of its help. Their text is as in help.
	More []Section
}

// A Section has a heading and a text.
type Section struct{ Heading, Text string }

// Name returns the name of the page of a command: "zcprobe-policy-init".
func Name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// Commands returns a command and all below it that have a page, each before those below
// it. One page is enough for the shells that command lines are completed for.
func Commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	if cmd.Name() == "completion" {
		return all
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, Commands(c)...)
		}
	}
	return all
}

// Page returns the page of a command in the man(7) language.
func Page(cmd *cobra.Command, a About) string {
	cmd.InitDefaultHelpFlag()
	w := &writer{}
	w.line(".TH %s 1 %s %s", quote(strings.ToUpper(Name(cmd))), quote(a.Date), quote("zcprobe "+a.Version))
	w.line(".SH NAME")
	w.line("%s \\- %s", prose(Name(cmd)), prose(lowerFirst(strings.TrimRight(cmd.Short, "?."))))
	w.line(".SH SYNOPSIS")
	if cmd.Runnable() {
		w.line(".B %s", literal(cmd.UseLine()))
	}
	if cmd.HasAvailableSubCommands() {
		if cmd.Runnable() {
			w.line(".br")
		}
		w.line(".B %s", literal(cmd.CommandPath()+" COMMAND"))
	}
	w.line(".SH DESCRIPTION")
	w.text(cmp.Or(cmd.Long, sentence(cmd.Short)))
	w.commands(cmd)
	w.flags("OPTIONS", cmd.LocalFlags())
	w.flags("COMMON OPTIONS", cmd.InheritedFlags())
	if cmd.HasExample() {
		w.line(".SH EXAMPLES")
		w.block(strings.Split(strings.Trim(cmd.Example, "\n"), "\n"))
	}
	if !cmd.HasParent() {
		for _, s := range a.More {
			w.line(".SH %s", quote(strings.ToUpper(s.Heading)))
			w.text(s.Text)
		}
	}
	w.seeAlso(cmd)
	return w.b.String()
}

type writer struct{ b strings.Builder }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// text writes paragraphs; lines that are set in by two spaces stay as they are.
func (w *writer) text(s string) {
	begun := false
	for part := range strings.SplitSeq(strings.Trim(s, "\n"), "\n\n") {
		lines := strings.Split(part, "\n")
		if begun {
			w.line(".PP")
		}
		begun = true
		if strings.HasPrefix(lines[0], "  ") {
			w.block(lines)
			continue
		}
		for _, l := range lines {
			w.line("%s", prose(strings.TrimSpace(l)))
		}
	}
}

// block writes lines as they are.
func (w *writer) block(lines []string) {
	w.line(".nf")
	w.line(".RS")
	for _, l := range lines {
		w.line("%s", literal(strings.TrimPrefix(l, "  ")))
	}
	w.line(".RE")
	w.line(".fi")
}

func (w *writer) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	w.line(".SH COMMANDS")
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			w.line(".TP")
			w.line(".B %s", literal(c.Name()))
			w.line("%s", prose(sentence(c.Short)))
		}
	}
}

func (w *writer) flags(heading string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	w.line(".SH %s", quote(heading))
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		w.line(".TP")
		flag := "\\fB" + literal("--"+f.Name) + "\\fR"
		if f.Shorthand != "" {
			flag = "\\fB" + literal("-"+f.Shorthand) + "\\fR, " + flag
		}
		if name != "" {
			flag += " \\fI" + literal(name) + "\\fR"
		}
		w.line("%s", flag)
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		w.line("%s", prose(usage))
	})
}

func (w *writer) seeAlso(cmd *cobra.Command) {
	var pages []string
	add := func(c *cobra.Command) { pages = append(pages, "\\fB"+literal(Name(c))+"\\fR(1)") }
	if cmd.HasParent() {
		add(cmd.Parent())
	}
	for _, c := range Commands(cmd)[1:] {
		if c.Parent() == cmd {
			add(c)
		}
	}
	if len(pages) > 0 {
		w.line(".SH SEE ALSO")
		w.line("%s", strings.Join(pages, ",\n"))
	}
}

func sentence(s string) string {
	if strings.HasSuffix(s, "?") || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// lowerFirst is for the one-line description, which follows a dash.
func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// prose escapes text that is filled. Hyphens of options stay what they are when they
// are copied; those between words may become others.
func prose(s string) string {
	s = escape(s)
	var b strings.Builder
	for i, word := range strings.Split(s, " ") {
		if i > 0 {
			b.WriteByte(' ')
		}
		if bare := strings.TrimLeft(word, `"'([`); strings.HasPrefix(bare, "-") {
			word = strings.ReplaceAll(word, "-", `\-`)
		}
		b.WriteString(word)
	}
	return guard(b.String())
}

// literal escapes text that is copied: every hyphen is a minus.
func literal(s string) string {
	return guard(strings.ReplaceAll(escape(s), "-", `\-`))
}

func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r < 0x80:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}

// guard keeps a line from being taken for a request.
func guard(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// quote is an argument of a macro.
func quote(s string) string {
	return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"`
}
