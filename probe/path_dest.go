package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// destination is a place to send to as a user writes it: HOST, HOST:PORT,
// an IPv6 address with or without brackets, with or without a %zone.
type destination struct {
	host string     // without port and brackets, with the zone
	addr netip.Addr // valid when host is an address
	port uint16     // 0: none given
}

// maxHostName is the longest name that DNS can hold, in bytes (RFC 1035 2.3.4,
// with the final dot). Anything longer is no host name.
const maxHostName = 254

func parseDestination(s string) (destination, error) {
	bad := func(why string) (destination, error) {
		return destination{}, fmt.Errorf("destination %q: %s", s, why)
	}
	var d destination
	var port string
	var hasPort bool
	switch {
	case s == "":
		return destination{}, errors.New("destination is empty")
	case s[0] == '[':
		inner, rest, ok := strings.Cut(s[1:], "]")
		if !ok {
			return bad("missing ']'")
		}
		if rest != "" {
			if rest[0] != ':' {
				return bad("unexpected text after ']'")
			}
			port, hasPort = rest[1:], true
		}
		d.host = inner
		a, err := netip.ParseAddr(inner)
		if err != nil || !a.Is6() {
			return bad("only an IPv6 address goes in brackets")
		}
	case strings.Count(s, ":") == 1:
		d.host, port, _ = strings.Cut(s, ":")
		hasPort = true
	default: // a name, an IPv4 address, or an IPv6 address without a port
		d.host = s
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return bad("the port must be a number from 1 to 65535")
		}
		d.port = uint16(n)
	}
	if a, err := netip.ParseAddr(d.host); err == nil {
		d.addr = a
		return d, nil
	}
	if why := badHostName(d.host); why != "" {
		return bad(why)
	}
	return d, nil
}

// badHostName says why s cannot be looked up, or "" if it can. Names of digits
// and dots are mistyped addresses: a resolver might read 10.1 or 0x7f.1 in
// ways nobody meant.
func badHostName(s string) string {
	switch {
	case s == "":
		return "no host"
	case len(s) > maxHostName:
		return "the name is too long"
	case strings.ContainsAny(s, ":%/[]@ "):
		return "neither an address nor a host name"
	case strings.Trim(s, "0123456789.") == "":
		return "not an IPv4 address"
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return "the name holds a control character"
		}
	}
	return ""
}
