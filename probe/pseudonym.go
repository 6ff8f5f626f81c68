package probe

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"net/netip"
	"strings"
)

// Where the key of pseudonyms comes from, as RecordMeta.Pseudonyms says it.
const (
	keyMachine = "machine-id"
	keyBoot    = "boot-id"
	keyRandom  = "random"
)

// A pseudonymKey makes pseudonyms that are the same on this host each time and
// that nobody without the key can turn back, not even by trying every address.
type pseudonymKey struct {
	source string
	secret []byte
}

// hostKey returns the key of the given source, or with source "" the best one
// there is. Only machine-id outlives a reboot; a container without it has the
// boot id of its host, and where /proc is missing too the key is made up, so
// that pseudonyms agree within one record only.
func hostKey(root fs.FS, source string) (pseudonymKey, bool) {
	for _, k := range []struct{ source, file string }{
		{keyMachine, "etc/machine-id"},
		{keyBoot, "proc/sys/kernel/random/boot_id"},
	} {
		if source != "" && source != k.source {
			continue
		}
		b, err := fs.ReadFile(root, k.file)
		id := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
		// A machine-id may be empty or "uninitialized" (machine-id(5)).
		if secret, bad := hex.DecodeString(id); err == nil && bad == nil && len(secret) >= 16 {
			return pseudonymKey{k.source, secret}, true
		}
	}
	if source != "" {
		return pseudonymKey{}, false
	}
	secret := make([]byte, 16)
	rand.Read(secret) // never fails, crypto/rand(3)
	return pseudonymKey{keyRandom, secret}, true
}

func (k pseudonymKey) sum(kind, value string, attempt int) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte("zcprobe/record/v1\x00" + kind + "\x00" + value))
	if attempt > 0 {
		h.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(attempt)))
	}
	return h.Sum(nil)
}

// check is a short value that tells whether two keys are the same.
func (k pseudonymKey) check() string { return hex.EncodeToString(k.sum("key", "", 0)[:4]) }

// A pseudonymizer replaces what names a machine or a place. Equal values get
// equal pseudonyms and different ones different, so that what follows from
// their being equal still follows.
type pseudonymizer struct {
	key  pseudonymKey
	made map[string]string // pseudonym to the value it stands for
}

func newPseudonymizer(k pseudonymKey) *pseudonymizer {
	return &pseudonymizer{key: k, made: map[string]string{}}
}

// claim takes a pseudonym for value and reports whether it was free. Taken, it
// stands for something else, and the caller tries the next.
func (p *pseudonymizer) claim(pseudonym, value string) bool {
	if was, taken := p.made[pseudonym]; taken && was != value {
		return false
	}
	p.made[pseudonym] = value
	return true
}

// addr keeps the address's family and class, because prediction depends on
// them: loopback and unspecified stay, multicast and link-local keep their
// prefix, everything else moves to a prefix that is never routed (240.0.0.0/4
// of RFC 1112, 2001:db8::/32 of RFC 3849). A zone is an interface name and stays.
func (p *pseudonymizer) addr(a netip.Addr) netip.Addr {
	bare := a.WithZone("")
	if bare.IsLoopback() || bare.IsUnspecified() || bare == broadcast {
		return a
	}
	if bare.Is4In6() {
		v4 := p.addr(bare.Unmap())
		return netip.AddrFrom16(v4.As16()).WithZone(a.Zone())
	}
	for attempt := 0; ; attempt++ {
		out := hashAddr(bare, p.key.sum("addr", bare.String(), attempt))
		if out != broadcast && p.claim(out.String(), bare.String()) {
			return out.WithZone(a.Zone())
		}
	}
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func hashAddr(a netip.Addr, sum []byte) netip.Addr {
	if a.Is4() {
		in, out := a.As4(), [4]byte(sum[:4])
		switch {
		case a.IsLinkLocalUnicast(): // 169.254.0.0/16
			out[0], out[1] = in[0], in[1]
		case a.IsMulticast():
			out[0] = 0xe0 | out[0]&0x0f
		default:
			out[0] = 0xf0 | out[0]&0x0f
		}
		return netip.AddrFrom4(out)
	}
	in, out := a.As16(), [16]byte(sum[:16])
	switch {
	case a.IsLinkLocalUnicast(): // fe80::/10, in use fe80::/64
		copy(out[:8], in[:8])
	case a.IsMulticast():
		copy(out[:2], in[:2]) // flags and scope
	default:
		copy(out[:4], []byte{0x20, 0x01, 0x0d, 0xb8})
	}
	return netip.AddrFrom16(out)
}

// mac returns a locally administered address of the same length. Zero and
// broadcast addresses name nobody and stay, as does what is no address. Tunnels
// have their outer IP address for a hardware address, so any length counts.
func (p *pseudonymizer) mac(s string) string {
	digits := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(s))
	b, err := hex.DecodeString(digits)
	if err != nil || strings.Trim(digits, "0") == "" || strings.Trim(digits, "f") == "" {
		return s
	}
	sep := ""
	if i := strings.IndexAny(s, ":-"); i >= 0 {
		sep = s[i : i+1]
	}
	sum := p.key.sum("mac", digits, 0)
	parts := make([]string, len(b))
	for i := range parts {
		parts[i] = hex.EncodeToString([]byte{sum[i%len(sum)]})
	}
	parts[0] = "02"
	return strings.Join(parts, sep)
}

// host replaces the host of HOST or HOST:PORT, an address or a name, and keeps
// the port and the brackets.
func (p *pseudonymizer) host(s string) string {
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (strings.Count(s, ":") == 1 || strings.HasSuffix(s[:i], "]")) {
		name, port = s[:i], s[i:]
	}
	open, end := "", ""
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name, open, end = name[1:len(name)-1], "[", "]"
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return open + p.addr(a).String() + end + port
	}
	return open + p.name(name) + end + port
}

func (p *pseudonymizer) name(s string) string {
	plain := strings.ToLower(strings.TrimSuffix(s, "."))
	if plain == "" || plain == "localhost" {
		return s
	}
	return p.word("name", plain, "host-", ".invalid")
}

func (p *pseudonymizer) path(s string) string {
	if strings.Trim(s, "./") == "" { // "", "/", "." and "..", which tell nothing
		return s
	}
	return p.word("path", strings.TrimRight(s, "/"), "/dir-", "")
}

func (p *pseudonymizer) word(kind, value, prefix, suffix string) string {
	for attempt := 0; ; attempt++ {
		s := prefix + hex.EncodeToString(p.key.sum(kind, value, attempt)[:4]) + suffix
		if p.claim(s, value) {
			return s
		}
	}
}
