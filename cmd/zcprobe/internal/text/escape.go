package text

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes a string from the host safe to show: whatever could move the
// cursor, change the terminal's state or reorder what stands around it
// (control, format, private-use and separator characters, bytes that are not
// UTF-8) becomes a visible escape. With ascii, so does everything that is not ASCII.
func Escape(s string, ascii bool) string {
	if !needsEscape(s, ascii) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case printable(r, ascii):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

func needsEscape(s string, ascii bool) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !printable(r, ascii) {
			return true
		}
		i += n
	}
	return false
}

func printable(r rune, ascii bool) bool {
	if r < 0x80 {
		return r >= 0x20 && r < 0x7f
	}
	// IsPrint excludes control, format (bidi overrides among them), surrogate
	// and private-use characters and every space but the ASCII one. Marks that
	// combine could overprint what stands before them.
	return !ascii && unicode.IsPrint(r) && !unicode.Is(unicode.M, r)
}

// columns is the number of terminal columns s takes once escaped.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if wide(r) {
			n++
		}
	}
	return n
}

// wide reports whether terminals give r two columns (the East Asian wide
// blocks and the pictographs; Unicode Standard Annex 11).
func wide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f,
		r >= 0x2e80 && r <= 0xa4cf,
		r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1faff,
		r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}
