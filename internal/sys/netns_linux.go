package sys

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// SetNetNS moves the calling thread into the network namespace that f, a file
// such as /proc/PID/ns/net, stands for. It needs CAP_SYS_ADMIN, in the user
// namespace of the thread and in the one that owns the network namespace, even
// to enter the namespace the thread is in already; setns(2).
func SetNetNS(f *os.File) error {
	return Wrap("setns "+f.Name(), unix.Setns(int(f.Fd()), unix.CLONE_NEWNET))
}

// UnshareNetNS moves the calling thread into a new network namespace, in which
// nothing is but lo, down. It needs CAP_SYS_ADMIN; unshare(2).
func UnshareNetNS() error {
	return Wrap("unshare CLONE_NEWNET", unix.Unshare(unix.CLONE_NEWNET))
}

// NetNSCookie returns the number by which the kernel tells the network
// namespace of the calling thread from all others since boot. It needs no
// capability and no /proc, but Linux 5.14; ENOPROTOOPT before.
func NetNSCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, Wrap("socket AF_UNIX", err)
	}
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	unix.Close(fd)
	return c, Wrap("getsockopt SO_NETNS_COOKIE", err)
}

// NetNSID asks over n, an rtnetlink socket, by which id the socket's network
// namespace knows the one that f stands for: the id of IFLA_LINK_NETNSID. It is
// -1 if it has none. No capability is needed; NETNSA_FD is Linux 4.0.
func NetNSID(n *Netlink, f *os.File) (int, error) {
	body := make([]byte, align4(unix.SizeofRtGenmsg))
	body = AppendNetlinkAttr(body, unix.NETNSA_FD, binary.NativeEndian.AppendUint32(nil, uint32(f.Fd())))
	msgs, err := n.Query(unix.RTM_GETNSID, 0, body)
	if err != nil {
		return -1, Wrap("RTM_GETNSID "+f.Name(), err)
	}
	id := -1
	for _, m := range msgs {
		if m.Type != unix.RTM_NEWNSID || len(m.Body) < align4(unix.SizeofRtGenmsg) {
			continue
		}
		err := EachNetlinkAttr(m.Body[align4(unix.SizeofRtGenmsg):], func(typ uint16, v []byte) error {
			if typ == unix.NETNSA_NSID && len(v) >= 4 {
				id = int(int32(binary.NativeEndian.Uint32(v)))
			}
			return nil
		})
		if err != nil {
			return -1, Wrap("RTM_GETNSID "+f.Name(), err)
		}
	}
	return id, nil
}
