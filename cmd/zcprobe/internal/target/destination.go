package target

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Destination is a set of addresses, and a port of them or any.
type Destination struct {
	Prefixes []netip.Prefix
	Port     uint16 // 0: any
}

// Resolve looks up a host name.
type Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

// ParseDestination reads HOST, HOST:PORT, an address, [ADDRESS]:PORT or a prefix,
// "10.0.0.0/8". A name is looked up.
func ParseDestination(ctx context.Context, s string, resolve Resolve) (Destination, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 { // holds other addresses too, and no socket of IPv4 matches it
				return Destination{}, fmt.Errorf("%q is no destination: write the IPv4 prefix", s)
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return Destination{Prefixes: []netip.Prefix{p.Masked()}}, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return Destination{Prefixes: []netip.Prefix{whole(a)}}, nil
	}
	host, port := s, uint16(0)
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return Destination{}, fmt.Errorf("%q has no port: write HOST, HOST:PORT or a prefix like 10.0.0.0/8", s)
		}
		host, port = s[:i], uint16(n)
	}
	if host == "" || host == "*" {
		return Destination{Port: port}, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return Destination{Prefixes: []netip.Prefix{whole(a)}, Port: port}, nil
	}
	if strings.ContainsAny(host, "/:[] ") {
		return Destination{}, fmt.Errorf("%q is no destination: write HOST, HOST:PORT or a prefix like 10.0.0.0/8", s)
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		return Destination{}, err
	}
	d := Destination{Port: port}
	for _, a := range addrs {
		d.Prefixes = append(d.Prefixes, whole(a))
	}
	return d, nil
}

func whole(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}
