// Package render turns answers into text for people and JSON for programs. It
// looks at nothing but what it is given.
package render

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// JSON writes v indented. Characters that a terminal would act on are written
// as escapes, in strings from the host too: JSON is looked at on terminals.
func JSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// JSONLine writes v in one line, for commands that print several objects.
func JSONLine(w io.Writer, v any) error { return encode(w, v, "") }

func encode(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(visible{w})
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// visible replaces what does not print by \u escapes. The encoder, which writes all
// of a value at once, has escaped all below U+0020, so whatever is found stands in a
// string. It goes on in pieces: an answer can be of many megabytes.
type visible struct{ w io.Writer }

func (v visible) Write(b []byte) (int, error) {
	const piece = 32 << 10
	out := make([]byte, 0, min(len(b), piece+utf8.UTFMax))
	size := len(b)
	for len(b) > 0 {
		if len(out) >= piece {
			if _, err := v.w.Write(out); err != nil {
				return size - len(b), err
			}
			out = out[:0]
		}
		r, n := utf8.DecodeRune(b)
		switch {
		case r < 0x7f || unicode.IsPrint(r) && !unicode.Is(unicode.M, r):
			out = append(out, b[:n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	_, err := v.w.Write(out)
	return size, err
}
