package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// tapFileMost bounds what is read of /proc/net/packet and /proc/net/ptype: at
// some 70 bytes a line, 60,000 sockets.
const tapFileMost = 4 << 20

// packetRow is a line of /proc/net/packet.
type packetRow struct {
	protocol uint16
	ifindex  int // 0: any device, -1: the device has gone
	running  bool
	uid      uint32
	inode    uint64
}

// parsePackets reads /proc/net/packet (net/packet/af_packet.c:packet_seq_show).
func parsePackets(b []byte) ([]packetRow, error) {
	var out []packetRow
	for i, line := range tapLines(b) {
		row, err := parsePacketRow(line)
		if err != nil {
			return nil, fmt.Errorf("line %d of packet: %w", i+2, err)
		}
		out = append(out, row)
	}
	return out, nil
}

func parsePacketRow(line string) (r packetRow, err error) {
	// sk RefCnt Type Proto Iface R Rmem User Inode
	f := strings.Fields(line)
	if len(f) < 9 {
		return r, fmt.Errorf("%d fields", len(f))
	}
	proto, err1 := strconv.ParseUint(f[3], 16, 16)
	index, err2 := strconv.ParseInt(f[4], 10, 32)
	run, err3 := strconv.ParseUint(f[5], 10, 8)
	uid, err4 := strconv.ParseUint(f[7], 10, 32)
	ino, err5 := strconv.ParseUint(f[8], 10, 64)
	return packetRow{uint16(proto), int(index), run != 0, uint32(uid), ino}, errors.Join(err1, err2, err3, err4, err5)
}

// ptypeRow is a line of /proc/net/ptype.
type ptypeRow struct {
	all      bool   // ETH_P_ALL: on a list that outgoing packets go to
	device   string // "" any
	function string // "packet_rcv", "hook [module]"; a number without CONFIG_KALLSYMS
}

// parsePtypes reads /proc/net/ptype (net/core/net-procfs.c:ptype_seq_show):
// four characters of type, a space, the device's name padded to eight, a space,
// the function. Names hold no white space that the kernel knows of, but may
// well hold what Unicode takes for it.
func parsePtypes(b []byte) ([]ptypeRow, error) {
	var out []ptypeRow
	for i, line := range tapLines(b) {
		if len(line) < 6 || line[4] != ' ' {
			return nil, fmt.Errorf("line %d of ptype: too short", i+2)
		}
		r := ptypeRow{all: line[:4] == "ALL "}
		device, rest, ok := strings.Cut(line[5:], " ")
		r.device, r.function = device, strings.Trim(rest, " ")
		if !ok || r.function == "" {
			return nil, fmt.Errorf("line %d of ptype: no function", i+2)
		}
		out = append(out, r)
	}
	return out, nil
}

// tapLines returns the lines below the heading.
func tapLines(b []byte) []string {
	_, rest, _ := bytes.Cut(b, []byte("\n"))
	s := strings.TrimSuffix(string(rest), "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// socketHandler reports whether the function is one that packet sockets
// receive by. A number stands for a function whose name the kernel does not
// keep; it is taken for one, and the comparison with the sockets decides.
func (r ptypeRow) socketHandler() bool {
	name, _, _ := strings.Cut(r.function, " ") // " [af_packet]"
	name, _, _ = strings.Cut(name, ".")        // compilers add suffixes
	switch name {
	case "packet_rcv", "tpacket_rcv", "packet_rcv_spkt", "packet_rcv_fanout":
		return true
	}
	_, err := strconv.ParseUint(strings.TrimPrefix(name, "0x"), 16, 64)
	return err == nil
}

func (r ptypeRow) fanout() bool { return strings.HasPrefix(r.function, "packet_rcv_fanout") }

// tapView is what one namespace says of its packet sockets.
type tapView struct {
	sockets []packetRow
	hooks   []ptypeRow
}

// mismatch compares the two lists, which should tell of the same running
// ETH_P_ALL sockets; members of a fanout group share a hook. It returns "" or
// what is wrong.
func (v *tapView) mismatch() string {
	var sockets, hooks, groups [2]int // [0] any device, [1] bound to one
	for _, s := range v.sockets {
		if s.running && s.protocol == ethPAll {
			sockets[boolIndex(s.ifindex != 0)]++
		}
	}
	for _, h := range v.hooks {
		switch i := boolIndex(h.device != ""); {
		case !h.all || !h.socketHandler():
		case h.fanout():
			groups[i]++
		default:
			hooks[i]++
		}
	}
	for i, where := range []string{"on any device", "on one device"} {
		least, most := hooks[i]+groups[i], hooks[i]
		if groups[i] > 0 {
			most = sockets[i]
		}
		if sockets[i] < least || sockets[i] > most {
			return fmt.Sprintf("ptype lists %d captures %s, packet lists %d", least, where, sockets[i])
		}
	}
	return ""
}

func boolIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

// readTapView reads both lists below dir, "thread-self" or a process id. They
// are read apart, so sockets that come or go in between are allowed for by
// reading again.
func readTapView(proc fs.FS, dir string) (*tapView, error) {
	const tries = 3
	v := &tapView{}
	wrong := ""
	for range tries {
		var err error
		if v.hooks, err = readTapFile(proc, dir+"/net/ptype", parsePtypes); err != nil {
			return nil, err
		}
		v.sockets, err = readTapFile(proc, dir+"/net/packet", parsePackets)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // no packet sockets in this kernel, or their module is not loaded
		}
		if err != nil {
			return nil, err
		}
		if wrong = v.mismatch(); wrong == "" {
			return v, nil
		}
	}
	return v, errors.New(wrong)
}

func readTapFile[T any](proc fs.FS, name string, parse func([]byte) ([]T, error)) ([]T, error) {
	b, err := readBounded(proc, name, tapFileMost)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// readBounded reads a file of at most so many bytes.
func readBounded(fsys fs.FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("read %s: longer than %d bytes", name, most)
	}
	return b, nil
}
