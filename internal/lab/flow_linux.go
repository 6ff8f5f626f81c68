package lab

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// ErrNoFlow says that the sink does not know of a connection: nothing of it has
// arrived, it is closed, or it was closed so long ago that it is forgotten.
var ErrNoFlow = errors.New("no such flow")

// Traffic is what arrived from the sender.
type Traffic struct {
	// Bytes are payload: of datagrams all, of TCP those that arrived in order,
	// each once.
	Bytes uint64
	// Packets are what the device handed over, with payload or without. One of
	// them can be a GSO packet of 64 KiB.
	Packets uint64
	// Segments are the packets that a wire would have carried: a GSO packet is
	// as many as it is to be cut into. Of UDP they are datagrams.
	Segments uint64
}

// State is how far a connection has come.
type State uint8

// A flow of datagrams is always open.
const (
	Open          State = iota
	Closed              // by FIN, in both directions
	ResetBySender       // by RST
	ResetBySink         // by RST, see [Sink.Reset]
)

func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Closed:
		return "closed"
	case ResetBySender:
		return "reset by sender"
	case ResetBySink:
		return "reset by sink"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Flow is a TCP connection, or the datagrams from one port to another.
type Flow struct {
	Network      string // tcp or udp
	Sender, Sink netip.AddrPort
	Traffic

	// Of TCP alone:
	State          State
	Acks           uint64 // segments that the sink sent
	Duplicates     uint64 // segments with nothing new: retransmissions, needless or not
	DuplicateBytes uint64
	OutOfOrder     uint64 // segments that arrived after a hole
	Discarded      uint64 // segments not taken: beyond the window, or behind the ninth hole
	Held           uint64 // bytes that wait behind a hole
	FinReceived    bool   // everything that the sender had to say has arrived
}

// mapped returns an address as words in network order, IPv4 mapped into IPv6.
func mapped(a netip.Addr) (words [4]uint32) {
	b := a.As16()
	for i := range words {
		words[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return words
}

func unmapped(words [4]uint32, port uint16) netip.AddrPort {
	var b [16]byte
	for i, w := range words {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), networkOrder(port))
}

// networkOrder turns a port from network order to host order, or back. The
// programs are built for little-endian machines alone.
func networkOrder(port uint16) uint16 { return bits.ReverseBytes16(port) }

func flowKey(sender, sink netip.AddrPort) sinkKey {
	return sinkKey{
		Src: mapped(sender.Addr()), SrcPort: networkOrder(sender.Port()),
		Dst: mapped(sink.Addr()), DstPort: networkOrder(sink.Port()),
	}
}

// connKey returns the key of a connection to the sink, and its network.
func connKey(c net.Conn) (sinkKey, string, error) {
	switch local := c.LocalAddr().(type) {
	case *net.TCPAddr:
		if remote, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			return flowKey(local.AddrPort(), remote.AddrPort()), "tcp", nil
		}
	case *net.UDPAddr:
		if remote, ok := c.RemoteAddr().(*net.UDPAddr); ok {
			return flowKey(local.AddrPort(), remote.AddrPort()), "udp", nil
		}
	}
	return sinkKey{}, "", fmt.Errorf("sink: %v is not connected to it", c.LocalAddr())
}

// Flow returns what the sink knows of a connection to it: a *net.TCPConn, a
// connected *net.UDPConn, or what has their addresses.
func (s *Sink) Flow(c net.Conn) (Flow, error) {
	key, network, err := connKey(c)
	if err != nil {
		return Flow{}, err
	}
	f := Flow{Network: network}
	if network == "udp" {
		var v sinkDatagrams
		if err = s.programs.DatagramFlows.Lookup(key, &v); err == nil {
			f = datagramFlow(key, v)
		}
	} else {
		var v sinkFlow
		if err = s.programs.Flows.LookupWithFlags(key, &v, ebpf.LookupLock); err == nil {
			f = tcpFlow(key, v)
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = ErrNoFlow
	}
	if err != nil {
		return Flow{}, fmt.Errorf("sink: flow of %v: %w", c.LocalAddr(), err)
	}
	return f, nil
}

// Flows returns all flows that the sink knows, in the order of their addresses.
// Connections that are closed stay among them until there is need for the room.
func (s *Sink) Flows() ([]Flow, error) {
	var flows []Flow
	known, err := s.tcpFlows()
	if err != nil {
		return nil, err
	}
	for key, v := range known {
		flows = append(flows, tcpFlow(key, v))
	}
	var key sinkKey
	var v sinkDatagrams
	entries := s.programs.DatagramFlows.Iterate()
	for entries.Next(&key, &v) {
		flows = append(flows, datagramFlow(key, v))
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("sink: flows: %w", err)
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(a.Sender.Compare(b.Sender), a.Sink.Compare(b.Sink), cmp.Compare(a.Network, b.Network))
	})
	return flows, nil
}

func (s *Sink) tcpFlows() (map[sinkKey]sinkFlow, error) {
	flows, err := readFlows(s.programs.Flows)
	if err != nil {
		return nil, fmt.Errorf("sink: flows: %w", err)
	}
	return flows, nil
}

// readFlows reads all entries of the map. Those that come or go meanwhile may be
// missing.
func readFlows(m *ebpf.Map) (map[sinkKey]sinkFlow, error) {
	flows := make(map[sinkKey]sinkFlow)
	var key sinkKey
	var v sinkFlow
	entries := m.Iterate()
	for entries.Next(&key, &v) {
		flows[key] = v
	}
	// Deleting while it is read makes the kernel start again.
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return nil, err
	}
	return flows, nil
}

func datagramFlow(key sinkKey, v sinkDatagrams) Flow {
	return Flow{
		Network: "udp",
		Sender:  unmapped(key.Src, key.SrcPort),
		Sink:    unmapped(key.Dst, key.DstPort),
		Traffic: Traffic{Bytes: v.Bytes, Packets: v.Packets, Segments: v.Datagrams},
	}
}

func tcpFlow(key sinkKey, v sinkFlow) Flow {
	f := Flow{
		Network:        "tcp",
		Sender:         unmapped(key.Src, key.SrcPort),
		Sink:           unmapped(key.Dst, key.DstPort),
		Traffic:        Traffic{Bytes: v.Bytes, Packets: v.Packets, Segments: v.Segments},
		Acks:           v.Acks,
		Duplicates:     v.Duplicates,
		DuplicateBytes: v.DuplicateBytes,
		OutOfOrder:     v.OutOfOrder,
		Discarded:      v.Discarded,
		FinReceived:    v.Flags&sinkFlowFlagFLOW_FIN_RECEIVED != 0,
	}
	for _, r := range v.Ranges {
		f.Held += uint64(r.End - r.Start)
	}
	switch {
	case v.Flags&sinkFlowFlagFLOW_RESET_BY_SENDER != 0:
		f.State = ResetBySender
	case v.Flags&sinkFlowFlagFLOW_RESET_BY_SINK != 0:
		f.State = ResetBySink
	case v.Flags&sinkFlowFlagFLOW_CLOSED != 0:
		f.State = Closed
	}
	return f
}

// Finish makes the sink close its direction of a TCP connection: the sender
// reads the end of the stream, and can go on to write.
func (s *Sink) Finish(c net.Conn) error { return s.command(c, sinkFlowFlagFLOW_SEND_FIN) }

// Reset makes the sink reset a TCP connection.
func (s *Sink) Reset(c net.Conn) error { return s.command(c, sinkFlowFlagFLOW_SEND_RST) }

func (s *Sink) command(c net.Conn, flags sinkFlowFlag) error {
	key, network, err := connKey(c)
	if err != nil {
		return err
	}
	if network != "tcp" {
		return fmt.Errorf("sink: %v: %w", c.LocalAddr(), errors.ErrUnsupported)
	}
	ok, err := s.control(key, flags)
	if err == nil && !ok {
		err = fmt.Errorf("sink: flow of %v: %w", c.LocalAddr(), ErrNoFlow)
	}
	return err
}

// control runs the program of that name and reports whether it found a flow
// that its command is for.
func (s *Sink) control(key sinkKey, flags sinkFlowFlag) (bool, error) {
	return control(s.programs.Control, key, flags)
}

func control(program *ebpf.Program, key sinkKey, flags sinkFlowFlag) (bool, error) {
	input := make([]byte, 14) // in place of an Ethernet header
	input = binary.NativeEndian.AppendUint16(input, uint16(flags))
	input, err := binary.Append(input, binary.NativeEndian, key)
	if err != nil {
		return false, fmt.Errorf("sink: command: %w", err)
	}
	code, err := program.Run(&ebpf.RunOptions{Data: input})
	if err != nil {
		return false, fmt.Errorf("sink: command: %w", err)
	}
	return code == 0, nil
}
