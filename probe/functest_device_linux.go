package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// deviceTests are of interfaces below or beside the socket's usual calls.
func deviceTests() []functest {
	return []functest{
		{"tcp_zerocopy_receive", testZerocopyReceive, false},
		{"packet_tx_ring", testPacketTxRing, false},
		{"af_xdp", testAFXDP, false},
		{"devmem.tx", testDevmemTx, false},
	}
}

// testZerocopyReceive maps received pages instead of copying them. Seen:
// "mapped_bytes", 0 where the call works but had no whole page to map; "equal",
// set where something was mapped.
func testZerocopyReceive(t *trial) {
	out, in, ok := t.tcpPair(loopback4)
	if !ok {
		return
	}
	mem, ok := t.memory(testSize)
	if !ok {
		return
	}
	// Sent with MSG_ZEROCOPY, the data reaches the receiver in whole pages;
	// without, in pieces that cannot be mapped. The call is tested either way.
	flags := 0
	if t.k.SetInt(out, sys.SolSocket, sys.SoZerocopy, 1) == nil {
		flags = sys.MsgZerocopy
	}
	n, err := t.k.Send(out, mem, flags)
	if errors.Is(err, syscall.ENOBUFS) {
		n, err = t.k.Send(out, mem, 0)
	}
	if err == nil && n != len(mem) {
		err = errors.New("short send")
	}
	if !t.prep("send", err) {
		return
	}
	t.wait(in, sys.PollIn, waitArrival)
	area, err := t.k.Mmap(in, 0, testSize, sys.ProtRead, sys.MapShared)
	if !t.step("mmap of a TCP socket", err) {
		return
	}
	t.mms = append(t.mms, area)
	// struct tcp_zerocopy_receive as of Linux 4.18: address, length (in: room,
	// out: mapped), recv_skip_hint (out: bytes to read the usual way).
	var arg [16]byte
	binary.NativeEndian.PutUint64(arg[:], sys.Address(area))
	binary.NativeEndian.PutUint32(arg[8:], uint32(len(area)))
	_, err = t.k.GetBytes(in, sys.SolTCP, sys.TCPZerocopyReceive, arg[:])
	if !t.step("getsockopt TCP_ZEROCOPY_RECEIVE", err) {
		return
	}
	mapped := min(int(binary.NativeEndian.Uint32(arg[8:])), len(area))
	t.see("mapped_bytes", int64(mapped))
	if mapped > 0 {
		t.seeBool("equal", bytes.Equal(area[:mapped], mem[:mapped]))
	}
}

// etherLocal is ETH_P_802_EX1 of linux/if_ether.h, reserved for experiments on
// one's own network: nothing else listens for it.
const etherLocal = 0x88b5

// testPacketTxRing sends one frame from a mapped ring over lo. The receiver
// asks for one protocol, so it is no tap and changes nothing for others. Seen:
// "equal".
func testPacketTxRing(t *trial) {
	if !t.loaded("AF_PACKET", "PACKET") {
		return
	}
	tx, err := t.k.Socket(sys.AFPacket, sys.SockRaw, 0)
	if !t.step("socket AF_PACKET", err) {
		return
	}
	t.own(tx)
	rx, err := t.k.Socket(sys.AFPacket, sys.SockRaw, 0)
	if !t.prep("socket AF_PACKET", err) {
		return
	}
	t.own(rx)
	if !t.prep("bind lo", t.k.BindPacket(rx, sys.LoopbackIndex, etherLocal)) ||
		!t.prep("bind lo", t.k.BindPacket(tx, sys.LoopbackIndex, 0)) ||
		!t.prep("setsockopt PACKET_VERSION", t.k.SetInt(tx, sys.SolPacket, sys.PacketVersion, sys.TPacketV2)) {
		return
	}
	// The kernel waits for a grace period when a ring is set up or given back
	// and when a packet socket is closed, 10 ms and more each time.
	t.rest = func() { t.sendFromRing(tx, rx) }
}

func (t *trial) sendFromRing(tx, rx int) {
	// struct tpacket_req: one block of one frame, at least a page.
	const block = 64 << 10 // a multiple of every page size
	var req []byte
	for _, v := range []uint32{block, 1, block, 1} {
		req = binary.NativeEndian.AppendUint32(req, v)
	}
	if !t.step("setsockopt PACKET_TX_RING", t.k.SetBytes(tx, sys.SolPacket, sys.PacketTxRing, req)) {
		return
	}
	slot, err := t.k.Mmap(tx, 0, block, sys.ProtRead|sys.ProtWrite, sys.MapShared)
	if !t.step("mmap of the ring", err) {
		return
	}
	t.mms = append(t.mms, slot)
	// struct tpacket2_hdr: status, length; the frame follows at TPACKET2_HDRLEN
	// less struct sockaddr_ll.
	const header, requested = 32, 1 // TP_STATUS_SEND_REQUEST
	frame := slot[header : header+14+1000]
	clear(frame[:12])
	binary.BigEndian.PutUint16(frame[12:], etherLocal)
	copy(frame[14:], t.old)
	binary.NativeEndian.PutUint32(slot[4:], uint32(len(frame)))
	binary.NativeEndian.PutUint32(slot, requested)
	if _, err := t.k.Send(tx, nil, 0); !t.step("send", err) {
		return
	}
	got, err := t.datagram(rx, waitArrival)
	if err == nil && got == nil {
		err = errWait
	}
	t.step("recv", err)
	t.seeBool("equal", len(got) == len(frame) && bytes.Equal(got[14:], t.old[:1000]))
}

// testAFXDP makes a socket with memory and rings, and binds it to no device:
// that would take a queue away from the traffic on it.
func testAFXDP(t *trial) {
	if !t.loaded("AF_XDP", "XDP") {
		return
	}
	fd, err := t.k.Socket(sys.AFXDP, sys.SockRaw, 0)
	if !t.step("socket AF_XDP", err) {
		return
	}
	t.own(fd)
	// Memory of its own: it stays pinned until the socket is gone.
	mem, err := t.k.Mmap(-1, 0, rigBytes, sys.ProtRead|sys.ProtWrite, sys.MapPrivate|sys.MapAnonymous)
	if !t.prep("mmap", err) {
		return
	}
	t.mms = append(t.mms, mem)
	// struct xdp_umem_reg as of Linux 4.18: address, length, chunk, headroom.
	reg := binary.NativeEndian.AppendUint64(nil, sys.Address(mem))
	reg = binary.NativeEndian.AppendUint64(reg, uint64(len(mem)))
	reg = binary.NativeEndian.AppendUint32(reg, 4096)
	reg = binary.NativeEndian.AppendUint32(reg, 0)
	err = t.k.SetBytes(fd, sys.SolXDP, sys.XDPUmemReg, reg)
	if errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) {
		t.seeMemlock()
	}
	if !t.step("setsockopt XDP_UMEM_REG", err) {
		return
	}
	for _, o := range []struct {
		name   string
		option int
	}{
		{"XDP_UMEM_FILL_RING", sys.XDPUmemFillRing},
		{"XDP_UMEM_COMPLETION_RING", sys.XDPUmemCompletionRing},
		{"XDP_TX_RING", sys.XDPTxRing},
	} {
		if !t.step("setsockopt "+o.name, t.k.SetInt(fd, sys.SolXDP, o.option, 8)) {
			return
		}
	}
}

// Generic netlink names of linux/genetlink.h and linux/netdev.h.
const (
	genlController = 16 // GENL_ID_CTRL
	ctrlGetFamily  = 3  // CTRL_CMD_GETFAMILY
	ctrlFamilyID   = 1  // CTRL_ATTR_FAMILY_ID
	ctrlFamilyName = 2  // CTRL_ATTR_FAMILY_NAME
	ctrlOps        = 6  // CTRL_ATTR_OPS
	ctrlOpID       = 1  // CTRL_ATTR_OP_ID

	netdevBindTx  = 15 // NETDEV_CMD_BIND_TX, Linux 6.16
	netdevIfindex = 1  // NETDEV_A_DMABUF_IFINDEX
	netdevFD      = 3  // NETDEV_A_DMABUF_FD

	maxDevicesAsked = 1024
)

// testDevmemTx asks each device for a binding to device memory, with a
// descriptor that is none: a device that can do it answers EBADF, one that
// cannot EOPNOTSUPP, and none binds anything (netdev_nl_bind_tx_doit). Seen:
// "operation" 1 where the kernel has the operation, "devices", "able".
func testDevmemTx(t *trial) {
	nl, err := t.k.OpenNetlink(sys.NetlinkGeneric)
	if !t.prep("socket AF_NETLINK", err) {
		return
	}
	defer nl.Close()
	// A dump of all families. Asking for one by name would make the kernel
	// look for a module of that name.
	msgs, err := nl.Query(genlController, sys.NetlinkDump, []byte{ctrlGetFamily, 2, 0, 0})
	if !t.prep("CTRL_CMD_GETFAMILY", err) {
		return
	}
	family, has := netdevFamily(msgs)
	t.seeBool("operation", has)
	if !has {
		t.step("NETDEV_CMD_BIND_TX", syscall.EOPNOTSUPP)
		return
	}
	devices, err := net.Interfaces()
	if !t.prep("list of devices", err) {
		return
	}
	able, other := 0, false
	for i, dev := range devices {
		if i == maxDevicesAsked {
			break
		}
		body := []byte{netdevBindTx, 1, 0, 0}
		body = sys.AppendNetlinkAttr(body, netdevIfindex, binary.NativeEndian.AppendUint32(nil, uint32(dev.Index)))
		body = sys.AppendNetlinkAttr(body, netdevFD, binary.NativeEndian.AppendUint32(nil, ^uint32(0)))
		_, err := nl.Query(family, 0, body)
		if errors.Is(err, syscall.EBADF) {
			able++
			t.stepValue("NETDEV_CMD_BIND_TX "+dev.Name, "takes device memory", nil)
			break
		}
		if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.ENODEV) {
			t.step("NETDEV_CMD_BIND_TX "+dev.Name, err)
			other = true
		}
	}
	if able == 0 && !other {
		t.step("NETDEV_CMD_BIND_TX on every device", syscall.EOPNOTSUPP)
	}
	t.see("devices", int64(len(devices)))
	t.see("able", int64(able))
}

// netdevFamily finds the number of the netdev family among all, and whether it
// can bind device memory for transmission.
func netdevFamily(msgs []sys.NetlinkMessage) (id uint16, bindTx bool) {
	for _, m := range msgs {
		if len(m.Body) < 4 {
			continue
		}
		var name string
		var number uint16
		has := false
		// What does not parse is not the family looked for.
		_ = sys.EachNetlinkAttr(m.Body[4:], func(typ uint16, v []byte) error {
			switch {
			case typ == ctrlFamilyName:
				name = string(bytes.TrimRight(v, "\x00"))
			case typ == ctrlFamilyID && len(v) >= 2:
				number = binary.NativeEndian.Uint16(v)
			case typ == ctrlOps:
				has = hasOperation(v, netdevBindTx)
			}
			return nil
		})
		if name == "netdev" {
			return number, has
		}
	}
	return 0, false
}

// hasOperation looks for an operation in CTRL_ATTR_OPS, a list of nests.
func hasOperation(ops []byte, want uint32) bool {
	found := false
	_ = sys.EachNetlinkAttr(ops, func(_ uint16, op []byte) error {
		return sys.EachNetlinkAttr(op, func(typ uint16, v []byte) error {
			found = found || typ == ctrlOpID && len(v) >= 4 && binary.NativeEndian.Uint32(v) == want
			return nil
		})
	})
	return found
}
