package sys

import "golang.org/x/sys/unix"

// PacketIgnoreOutgoing returns the option PACKET_IGNORE_OUTGOING of the packet
// socket fd; Linux 4.20, ENOPROTOOPT before.
func PacketIgnoreOutgoing(fd int) (bool, error) {
	v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING)
	return v != 0, Wrap("getsockopt PACKET_IGNORE_OUTGOING", err)
}

// SetPacketIgnoreOutgoing sets the option PACKET_IGNORE_OUTGOING of the packet
// socket fd; Linux 4.20, ENOPROTOOPT before.
func SetPacketIgnoreOutgoing(fd int) error {
	return Wrap("setsockopt PACKET_IGNORE_OUTGOING", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
}

// FanoutIgnoreOutgoing is the bit of [PacketFanout] that says that the group
// ignores outgoing packets: PACKET_FANOUT_FLAG_IGNORE_OUTGOING, 0x4000 when it
// is set (linux/if_packet.h, Linux 6.2) and 16 bits further up when it is read.
const FanoutIgnoreOutgoing = 0x4000 << 16

// PacketFanout returns the option PACKET_FANOUT of the packet socket fd: 0 if
// it is in no group, else the group's id, its type in the third byte and its
// flags in the fourth.
func PacketFanout(fd int) (uint32, error) {
	v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	return uint32(v), Wrap("getsockopt PACKET_FANOUT", err)
}

// InterfaceName returns the name of the device with the given index in the
// network namespace of the calling thread; ENODEV if there is none. It needs no
// capability and, unlike requests by name, makes the kernel load no module.
func InterfaceName(index int) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", Wrap("socket AF_UNIX", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("")
	if err != nil {
		return "", Wrap("ioctl SIOCGIFNAME", err)
	}
	r.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, r); err != nil {
		return "", Wrap("ioctl SIOCGIFNAME", err)
	}
	return r.Name(), nil
}
