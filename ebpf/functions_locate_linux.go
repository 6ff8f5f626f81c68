package ebpf

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// A location is where the kernel has something by a name.
type location struct {
	address uint64
	added   string // by the compiler, to the name
}

// locate looks for all names that the tiers of functions need, functions and
// data, in one reading.
func locate() (map[string]location, error) {
	names := map[string]bool{
		"page_cache_pipe_buf_confirm": true, "user_page_pipe_buf_try_steal": true, "anon_pipe_buf_release": true,
		"generic_pipe_buf_release": true, "generic_pipe_buf_try_steal": true, "ptype_all": true, "net_hotdata": true,
		"splice_to_socket": true,
	}
	for _, f := range functions() {
		names[f.Name] = true
	}
	file, err := os.Open(kallsyms)
	if err != nil {
		return nil, fmt.Errorf("symbols of the kernel: %w", err)
	}
	defer file.Close()
	found := map[string]location{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Bytes()
		space := bytes.IndexByte(line, ' ')
		if space < 0 || len(line) < space+4 {
			continue
		}
		name, _, _ := bytes.Cut(line[space+3:], []byte("\t"))
		plain := plainName(name)
		if !names[string(plain)] {
			continue
		}
		address, err := strconv.ParseUint(string(line[:space]), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("symbols of the kernel: %s: line %q: %w", kallsyms, line, err)
		}
		added := string(name[len(plain):])
		if before, ok := found[string(plain)]; !ok || len(added) < len(before.added) {
			found[string(plain)] = location{address, added}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("symbols of the kernel: %s: %w", kallsyms, err)
	}
	if found["tcp_sendmsg_locked"].address == 0 {
		return nil, fmt.Errorf("symbols of the kernel: %s shows no addresses: %w", kallsyms, os.ErrPermission)
	}
	return found, nil
}

// nameFunctions returns the names of the functions that return addresses lie in,
// without what the compiler has added to them, in one reading of all symbols.
func nameFunctions(addresses []uint64) (map[uint64]string, error) {
	at := slices.DeleteFunc(slices.Clone(addresses), func(a uint64) bool { return a == 0 })
	slices.Sort(at)
	at = slices.Compact(at)
	names := make(map[uint64]string, len(at))
	if len(at) == 0 {
		return names, nil
	}
	nearest := make([]symbol, len(at)) // of each: the last that begins after the one before
	err := symbols(func(name []byte, start uint64) bool {
		i, _ := slices.BinarySearch(at, start)
		if i < len(at) && start >= nearest[i].address && start != 0 {
			nearest[i] = symbol{start, string(plainName(name))}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var last symbol
	for i, a := range at {
		if nearest[i].address != 0 {
			last = nearest[i]
		}
		names[a] = last.name
	}
	return names, nil
}
