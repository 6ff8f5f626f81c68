package lab

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// TCP flags.
const (
	fin = 1 << iota
	syn
	rst
	_
	ack
)

// frame is a frame of the sender, or of the sink, as far as these tests look.
type frame struct {
	from, to netip.AddrPort
	protocol byte // 6 TCP, 17 UDP
	seq, ack uint32
	flags    byte
	window   uint16
	options  []byte
	payload  int
	padding  int // bytes after the packet
	cut      int // bytes missing at the end of the frame
}

// bytes builds the frame. Checksums are left 0, as nobody there looks at them.
func (f frame) bytes() []byte {
	be := binary.BigEndian
	var transport []byte
	transport = be.AppendUint16(transport, f.from.Port())
	transport = be.AppendUint16(transport, f.to.Port())
	if f.protocol == 17 {
		transport = be.AppendUint16(transport, uint16(8+f.payload))
		transport = be.AppendUint16(transport, 0)
	} else {
		transport = be.AppendUint32(transport, f.seq)
		transport = be.AppendUint32(transport, f.ack)
		transport = append(transport, byte(20+len(f.options))/4<<4, f.flags)
		transport = append(transport, 0xff, 0xff, 0, 0, 0, 0)
		transport = append(transport, f.options...)
	}
	transport = append(transport, make([]byte, f.payload)...)
	b := make([]byte, 12)
	if f.from.Addr().Is4() {
		b = append(b, 0x08, 0x00, 0x45, 0)
		b = be.AppendUint16(b, uint16(20+len(transport)))
		b = append(b, 0, 0, 0x40, 0, 64, f.protocol, 0, 0)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, uint16(len(transport)))
		b = append(b, f.protocol, 64)
	}
	b = append(b, f.from.Addr().AsSlice()...)
	b = append(b, f.to.Addr().AsSlice()...)
	b = append(b, transport...)
	b = append(b, make([]byte, f.padding)...)
	return b[:len(b)-f.cut]
}

// parseAnswer reads a frame of the sink, and reports whether its checksums are
// right. What follows the packet is padding.
func parseAnswer(b []byte) (f frame, right bool) {
	be := binary.BigEndian
	var transport, pseudo []byte
	var src, dst netip.Addr
	right = true
	if be.Uint16(b[12:]) == 0x0800 {
		ip := b[14:34]
		right = checksum(ip) == 0
		transport = b[34 : 14+be.Uint16(ip[2:])]
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		pseudo = append(pseudo, ip[12:20]...)
	} else {
		ip := b[14:54]
		transport = b[54 : 54+be.Uint16(ip[4:])]
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		pseudo = append(pseudo, ip[8:40]...)
	}
	pseudo = append(pseudo, 0, 6)
	pseudo = be.AppendUint16(pseudo, uint16(len(transport)))
	right = right && checksum(append(pseudo, transport...)) == 0
	f = frame{
		protocol: 6,
		from:     netip.AddrPortFrom(src, be.Uint16(transport)),
		to:       netip.AddrPortFrom(dst, be.Uint16(transport[2:])),
		seq:      be.Uint32(transport[4:]),
		ack:      be.Uint32(transport[8:]),
		flags:    transport[13],
		window:   be.Uint16(transport[14:]),
		options:  slices.Clone(transport[20 : transport[12]>>4*4]),
	}
	f.payload = len(transport) - 20 - len(f.options)
	return f, right
}

// checksum is that of RFC 1071 over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
