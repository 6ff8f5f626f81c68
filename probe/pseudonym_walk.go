package probe

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// What a string field of the facts holds, as its struct tag "addr" says it.
// Every string without the tag is text: addresses in it are found by their look.
const (
	holdsText  = ""
	holdsIP    = "ip"
	holdsMAC   = "mac"
	holdsHost  = "host" // HOST or HOST:PORT
	holdsPath  = "path"
	holdsMount = "mount option" // NAME or NAME=VALUE
	holdsPlain = "-"            // nothing that names a machine or place; kept as it is
)

// pseudonymous returns a copy of facts in which pseudonyms stand for what names
// a machine or a place: addresses, host names and directories, in the fields
// made for them and in whatever text mentions them. Interface and program names
// stay, except for a hardware address inside one.
func pseudonymous(f *Facts, p *pseudonymizer) *Facts {
	s := scrubber{p: p, release: f.Host.Kernel}
	mapStrings(reflect.ValueOf(f), holdsText, s.learn)
	// The longest first, so that a name is not replaced inside a longer one.
	slices.SortFunc(s.known, func(a, b known) int {
		return cmp.Or(cmp.Compare(len(b.is), len(a.is)), cmp.Compare(a.is, b.is))
	})
	return mapStrings(reflect.ValueOf(f), holdsText, s.replace).Interface().(*Facts)
}

// mapStrings returns a deep copy of v with fn applied to every string, keys of
// maps included. tag is that of the struct field the string was found in.
func mapStrings(v reflect.Value, tag string, fn func(tag, s string) string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(fn(tag, v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(mapStrings(v.Elem(), tag, fn))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(mapStrings(v.Index(i), tag, fn))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(mapStrings(it.Key(), tag, fn), mapStrings(it.Value(), tag, fn))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(mapStrings(v.Field(i), v.Type().Field(i).Tag.Get("addr"), fn))
		}
	default:
		out.Set(v)
	}
	return out
}

// A scrubber replaces names in strings. Host names and directories cannot be
// told by their look, so it learns them first from the fields that hold them.
type scrubber struct {
	p       *pseudonymizer
	release string // the kernel's, which may look like an address: "5.15.167.4-microsoft"
	known   []known
}

type known struct {
	is, becomes string
	any         bool // also where it is not a word of a sentence
}

func (s *scrubber) learn(tag, v string) string {
	switch tag {
	case holdsHost:
		host := v
		if i := strings.LastIndexByte(v, ':'); i >= 0 && strings.Count(v, ":") == 1 {
			host = v[:i]
		}
		if _, err := netip.ParseAddr(host); err == nil || strings.ContainsAny(host, "[]:") {
			return v // found by its look
		}
		// One word may be anything, so it is replaced in sentences only.
		s.add(known{strings.TrimSuffix(host, "."), s.p.host(host), strings.Contains(host, ".")})
	case holdsPath:
		s.add(known{strings.TrimRight(v, "/"), s.p.path(v), strings.HasPrefix(v, "/")})
	}
	return v
}

func (s *scrubber) add(k known) {
	if k.is != "" && k.is != k.becomes && !slices.Contains(s.known, k) {
		s.known = append(s.known, k)
	}
}

func (s *scrubber) replace(tag, v string) string {
	switch tag {
	case holdsIP:
		if a, err := netip.ParseAddr(v); err == nil {
			return s.p.addr(a).String()
		}
	case holdsMAC:
		if m := s.p.mac(v); m != v {
			return m
		}
	case holdsHost:
		return s.p.host(v)
	case holdsPath:
		return s.p.path(v)
	case holdsMount:
		if name, value, _ := strings.Cut(v, "="); strings.Contains(value, "/") {
			return name + "=" + s.p.path(value)
		}
	case holdsPlain:
		return s.namedByMAC(v)
	}
	return s.text(v)
}

// text replaces what is known and what looks like an address.
func (s *scrubber) text(v string) string {
	if s.release != "" && v != "" {
		parts := strings.Split(v, s.release)
		if len(parts) > 1 {
			for i := range parts {
				parts[i] = s.text(parts[i])
			}
			return strings.Join(parts, s.release)
		}
	}
	for _, k := range s.known {
		if k.any || strings.Contains(v, " ") {
			v = replaceWord(v, k.is, k.becomes)
		}
	}
	v = s.namedByMAC(v)
	// IPv6 before hardware addresses: eight short groups look like both. The
	// conditions only spare most strings the search.
	if strings.Count(v, ":") >= 2 {
		v = replaceTokens(v, ip6Like, s.ip6)
	}
	if len(v) >= 32 {
		v = replaceTokens(v, ip6Digits, s.ip6Digits)
	}
	if strings.Count(v, ":") >= 5 || strings.Count(v, "-") >= 5 {
		v = replaceTokens(v, macLike, func(t string) (string, bool) { return s.p.mac(t), true })
	}
	if strings.Count(v, ".") >= 3 {
		v = replaceTokens(v, ip4Like, s.ip4)
	}
	return v
}

func (s *scrubber) ip6(t string) (string, bool) {
	for rest := ""; ; {
		if a, err := netip.ParseAddr(t); err == nil {
			return s.p.addr(a).String() + rest, true
		}
		// A full stop with no space behind it, where an IPv4 part could be.
		i := strings.LastIndexByte(t, '.')
		if i < 0 {
			return "", false
		}
		t, rest = t[:i], t[i:]+rest
	}
}

func (s *scrubber) ip6Digits(t string) (string, bool) {
	b, err := hex.DecodeString(strings.ToLower(t))
	if err != nil || len(b) != 16 {
		return "", false
	}
	return strings.ReplaceAll(s.p.addr(netip.AddrFrom16([16]byte(b))).StringExpanded(), ":", ""), true
}

func (s *scrubber) ip4(t string) (string, bool) {
	if _, done := s.p.made[t]; done {
		return t, true // in the pseudonym of an IPv4-mapped address
	}
	fields := strings.Split(t, ".")
	for i, f := range fields {
		fields[i] = cmp.Or(strings.TrimLeft(f, "0"), "0") // 010.001.000.001
	}
	a, err := netip.ParseAddr(strings.Join(fields, "."))
	if err != nil {
		return "", false
	}
	return s.p.addr(a).String(), true
}

// What an address looks like. Whether a match is one, and stands alone, is
// for the caller to find out.
var (
	macLike   = regexp.MustCompile(`(?i)[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5,}|(?:-[0-9a-f]{2}){5,})`)
	ip6Like   = regexp.MustCompile(`(?i)[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*`)
	ip6Digits = regexp.MustCompile(`(?i)[0-9a-f]{32}`) // as in /proc/net/if_inet6
	ip4Like   = regexp.MustCompile(`\d{1,3}(?:\.\d{1,3}){3}`)
	// Predictable interface names: enx0011223344aa (systemd.net-naming-scheme(7)).
	macName = regexp.MustCompile(`(?:en|ib|sl|wl|ww)x[0-9a-f]{12}`)
)

// namedByMAC replaces the hardware address in an interface name made of one.
func (s *scrubber) namedByMAC(v string) string {
	if len(v) < len("enx0011223344aa") {
		return v
	}
	return replaceTokens(v, macName, func(t string) (string, bool) { return t[:3] + s.p.mac(t[3:]), true })
}

// replaceTokens replaces each match of re that stands alone and for which fn
// has a replacement.
func replaceTokens(v string, re *regexp.Regexp, fn func(string) (string, bool)) string {
	var b strings.Builder
	done := 0 // v up to here is in b
	for at := 0; at < len(v); {
		m := re.FindStringIndex(v[at:])
		if m == nil {
			break
		}
		from, to := trimToken(v, at+m[0], at+m[1])
		at = max(to, at+1)
		if from >= to || !alone(v[:from], v[to:]) {
			continue
		}
		if with, ok := fn(v[from:to]); ok {
			b.WriteString(v[done:from] + with)
			done = to
		}
	}
	return b.String() + v[done:]
}

// trimToken takes the punctuation of a sentence from the ends of v[from:to].
func trimToken(v string, from, to int) (int, int) {
	for from < to && v[to-1] == '.' {
		to--
	}
	if to-from > 1 && v[to-1] == ':' && v[to-2] != ':' {
		to--
	}
	if to-from > 1 && v[from] == ':' && v[from+1] != ':' {
		from++
	}
	return from, to
}

// replaceWord replaces old where it is not part of a longer word. What follows
// a directory's name up to the end of the path goes with it.
func replaceWord(v, old, with string) string {
	var b strings.Builder
	for {
		i := strings.Index(v, old)
		if i < 0 {
			return b.String() + v
		}
		end := i + len(old)
		if alone(b.String()+v[:i], v[end:]) {
			if strings.HasPrefix(with, "/dir-") {
				for end < len(v) && !strings.ContainsRune(" \t\n:\"',;)", rune(v[end])) {
					end++
				}
			}
			b.WriteString(v[:i] + with)
		} else {
			b.WriteString(v[:end])
		}
		v = v[end:]
	}
}

// alone reports whether what lies between before and after is a word of its own.
func alone(before, after string) bool {
	return (before == "" || !wordByte(before[len(before)-1])) && (after == "" || !wordByte(after[0]))
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
