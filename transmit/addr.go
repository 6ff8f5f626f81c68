package transmit

import (
	"net"
	"net/netip"
)

// addrOf returns the IP address of a socket address, the zero Addr if it has none.
func addrOf(a net.Addr) netip.Addr {
	var ip netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.AddrPort()
	case *net.UDPAddr:
		ip = a.AddrPort()
	}
	return ip.Addr().Unmap().WithZone("")
}
