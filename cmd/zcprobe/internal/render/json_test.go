package render

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzJSONIsSafeToLookAt(f *testing.F) {
	f.Add("eth0")
	f.Add("a\x1b[2J\x7f\u009b\u202e\u200b\u2028")
	f.Add("\U000e0041\U0001f600 größe e\u0301 <&>")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		if err := JSON(&b, map[string]string{"name": s}); err != nil {
			t.Fatal(err)
		}
		for _, r := range strings.ReplaceAll(b.String(), "\n", "") {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Errorf("%q in %q", r, b.String())
			}
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(b.String()), &back); err != nil {
			t.Fatalf("%v in %q", err, b.String())
		}
		if utf8.ValidString(s) && back["name"] != s {
			t.Errorf("%q came back as %q", s, back["name"])
		}
	})
}
