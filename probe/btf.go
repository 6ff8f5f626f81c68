package probe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A small reader of BTF, the kernel's own type information
// (Documentation/bpf/btf.rst): which members does a structure have? It tells
// how a kernel is built, where a version number tells only what it is called.
// The file is 5 to 7 MB and is streamed, so that asking costs some 100 KiB.

const (
	btfMagic = 0xeb9f
	// btfMost bounds the file; distribution kernels stay below 10 MB.
	btfMost = 64 << 20
	// btfBuffer also bounds the length of one name; the kernel's symbol names
	// end at 512 bytes.
	btfBuffer = 64 << 10
)

// Kinds of BTF type records (linux/btf.h).
const (
	btfInt       = 1
	btfArray     = 3
	btfStruct    = 4
	btfUnion     = 5
	btfEnum      = 6
	btfFuncProto = 13
	btfVar       = 14
	btfDatasec   = 15
	btfDeclTag   = 17
	btfTypeTag   = 18
	btfEnum64    = 19
)

var errBTF = errors.New("malformed BTF")

// btfMembers looks up structures by name and says which of the named members
// each one has. A name maps to one entry per structure of that name, in file
// order.
func btfMembers(r io.ReaderAt, size int64, structs, members []string) (map[string][]map[string]bool, error) {
	h, err := readBTFHeader(r, size)
	if err != nil {
		return nil, err
	}
	sNames, mNames := make(map[uint32]string), make(map[uint32]string)
	err = btfNames(io.NewSectionReader(r, h.strOff, h.strLen), func(off uint32, s []byte) {
		addSuffixes(sNames, off, s, structs)
		addSuffixes(mNames, off, s, members)
	})
	if err != nil {
		return nil, err
	}
	return btfWalk(io.NewSectionReader(r, h.typeOff, h.typeLen), h.order, sNames, mNames)
}

type btfHeader struct {
	order            binary.ByteOrder
	typeOff, typeLen int64
	strOff, strLen   int64
}

func readBTFHeader(r io.ReaderAt, size int64) (h btfHeader, err error) {
	var b [24]byte
	if size < int64(len(b)) || size > btfMost {
		return h, fmt.Errorf("%w: %d bytes", errBTF, size)
	}
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return h, fmt.Errorf("read BTF header: %w", err)
	}
	switch {
	case binary.LittleEndian.Uint16(b[:]) == btfMagic:
		h.order = binary.LittleEndian
	case binary.BigEndian.Uint16(b[:]) == btfMagic:
		h.order = binary.BigEndian
	default:
		return h, fmt.Errorf("%w: no magic number", errBTF)
	}
	if v := b[2]; v != 1 {
		return h, fmt.Errorf("%w: version %d", errBTF, v)
	}
	field := func(i int) int64 { return int64(h.order.Uint32(b[i:])) }
	base := field(4)
	h.typeOff, h.typeLen = base+field(8), field(12)
	h.strOff, h.strLen = base+field(16), field(20)
	if base < int64(len(b)) || h.typeOff+h.typeLen > size || h.strOff+h.strLen > size {
		return h, fmt.Errorf("%w: sections reach past the end", errBTF)
	}
	return h, nil
}

// btfNames calls fn with every string of the string section and its offset.
func btfNames(r io.Reader, fn func(off uint32, s []byte)) error {
	in := bufio.NewReaderSize(r, btfBuffer)
	for off := 0; ; {
		s, err := in.ReadSlice(0)
		switch {
		case err == io.EOF && len(s) == 0:
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: string section ends inside a name", errBTF)
		case err != nil:
			return fmt.Errorf("read BTF names: %w", err)
		}
		fn(uint32(off), s[:len(s)-1])
		off += len(s)
	}
}

// addSuffixes notes where in string s one of the names stands: a record may
// refer to the end of a longer string.
func addSuffixes(at map[uint32]string, off uint32, s []byte, names []string) {
	for _, n := range names {
		if i := len(s) - len(n); i >= 0 && string(s[i:]) == n {
			at[off+uint32(i)] = n
		}
	}
}

// btfWalk reads the type section and collects the members of the structures
// whose name is at one of the given offsets.
func btfWalk(r io.Reader, order binary.ByteOrder, structs, members map[uint32]string) (map[string][]map[string]bool, error) {
	found := make(map[string][]map[string]bool)
	in := bufio.NewReaderSize(r, btfBuffer)
	for {
		rec, err := in.Peek(12) // name_off, info, size or type; Peek saves an allocation per record
		if err == io.EOF && len(rec) == 0 {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("read BTF type: %w", err)
		}
		at, info := order.Uint32(rec), order.Uint32(rec[4:])
		kind, n := info>>24&0x1f, int(info&0xffff)
		if name, ok := structs[at]; ok && kind == btfStruct {
			if _, err := in.Discard(12); err != nil {
				return nil, fmt.Errorf("read BTF type: %w", err)
			}
			has, err := btfStructMembers(in, order, n, members)
			if err != nil {
				return nil, err
			}
			found[name] = append(found[name], has)
			continue
		}
		extra, err := btfExtra(kind, n)
		if err != nil {
			return nil, err
		}
		if _, err := in.Discard(12 + extra); err != nil {
			return nil, fmt.Errorf("read BTF type: %w", err)
		}
	}
}

func btfStructMembers(in io.Reader, order binary.ByteOrder, n int, members map[uint32]string) (map[string]bool, error) {
	has := make(map[string]bool)
	for range n {
		var m [12]byte // name_off, type, offset
		if _, err := io.ReadFull(in, m[:]); err != nil {
			return nil, fmt.Errorf("read BTF member: %w", err)
		}
		if name, ok := members[order.Uint32(m[:])]; ok {
			has[name] = true
		}
	}
	return has, nil
}

// btfExtra is the number of bytes that follow the 12 common to all records. A
// kind that did not exist when this was written has an unknown length and ends
// the walk.
func btfExtra(kind uint32, n int) (int, error) {
	switch {
	case kind == btfInt, kind == btfVar, kind == btfDeclTag:
		return 4, nil
	case kind == btfArray:
		return 12, nil
	case kind == btfStruct, kind == btfUnion, kind == btfDatasec, kind == btfEnum64:
		return 12 * n, nil
	case kind == btfEnum, kind == btfFuncProto:
		return 8 * n, nil
	case kind > 0 && kind <= btfTypeTag:
		return 0, nil // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
	}
	return 0, fmt.Errorf("%w: unknown kind %d", errBTF, kind)
}

// globalTapList says whether the kernel keeps one list of any-device packet
// taps for all namespaces (to 6.12) or one in each (struct net has ptype_all,
// seen in 6.18). An answer needs both what is there and where the list is
// otherwise known to be; anything else is nil.
func globalTapList(r io.ReaderAt, size int64) (global *bool, source string, err error) {
	found, err := btfMembers(r, size, []string{"net", "net_hotdata"}, []string{"ptype_all", "dev_base_head", "proc_net"})
	if err != nil {
		return nil, "", err
	}
	nets := found["net"]
	if len(nets) == 0 {
		return nil, "BTF: no struct net", nil
	}
	for _, n := range nets {
		if !n["dev_base_head"] || !n["proc_net"] || n["ptype_all"] != nets[0]["ptype_all"] {
			return nil, "BTF: struct net is not the one that is known", nil
		}
	}
	if nets[0]["ptype_all"] {
		return new(false), "BTF: struct net has ptype_all", nil
	}
	hot := found["net_hotdata"]
	for _, h := range hot {
		if !h["ptype_all"] {
			return nil, "BTF: neither struct net nor struct net_hotdata has ptype_all", nil
		}
	}
	if len(hot) > 0 {
		return new(true), "BTF: struct net_hotdata has ptype_all, struct net has not", nil
	}
	return new(true), "BTF: struct net has no ptype_all", nil // a variable of its own, to 6.8
}
