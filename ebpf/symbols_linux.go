package ebpf

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

const kallsyms = "/proc/kallsyms"

// A symbol is a function of the kernel.
type symbol struct {
	address uint64
	name    string
}

// symbols returns the functions for which want is true, in the order of the
// file. Addresses are all 0 to those who may not see them: that is an error.
func symbols(want func(name []byte, address uint64) bool) ([]symbol, error) {
	f, err := os.Open(kallsyms)
	if err != nil {
		return nil, fmt.Errorf("symbols of the kernel: %w", err)
	}
	defer f.Close()
	found, hidden, err := readSymbols(f, want)
	if err != nil {
		return nil, fmt.Errorf("symbols of the kernel: %s: %w", kallsyms, err)
	}
	if hidden {
		return nil, fmt.Errorf("symbols of the kernel: %s shows no addresses: %w", kallsyms, os.ErrPermission)
	}
	return found, nil
}

func readSymbols(r io.Reader, want func([]byte, uint64) bool) (found []symbol, hidden bool, err error) {
	hidden = true
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Bytes()
		hex, rest, ok := bytes.Cut(line, []byte(" "))
		if !ok || len(rest) < 3 {
			continue
		}
		kind, name := rest[0], rest[2:]
		if kind != 't' && kind != 'T' && kind != 'W' && kind != 'w' {
			continue
		}
		if i := bytes.IndexByte(name, '\t'); i >= 0 { // and the module
			name = name[:i]
		}
		address, err := strconv.ParseUint(string(hex), 16, 64)
		if err != nil {
			return nil, false, fmt.Errorf("line %q: %w", line, err)
		}
		hidden = hidden && address == 0
		if want(name, address) {
			found = append(found, symbol{address, string(name)})
		}
	}
	return found, hidden, lines.Err()
}

// addressesOf returns the addresses of functions, those that exist.
func addressesOf(names ...string) (map[string]uint64, error) {
	found, err := symbols(func(name []byte, _ uint64) bool {
		return slices.ContainsFunc(names, func(n string) bool { return n == string(name) })
	})
	at := make(map[string]uint64, len(found))
	for _, s := range found {
		at[s.name] = s.address
	}
	return at, err
}

// functionsAt returns the names of the functions that the addresses lie in,
// without what the compiler has added to them.
func functionsAt(addresses []uint64) (map[uint64]string, error) {
	found, err := nearest(addresses)
	names := make(map[uint64]string, len(found))
	for at, s := range found {
		names[at] = string(plainName([]byte(s.name)))
	}
	return names, err
}

// nearest returns for each address the last symbol that is not behind it.
func nearest(addresses []uint64) (map[uint64]symbol, error) {
	found := make(map[uint64]symbol, len(addresses))
	if len(addresses) == 0 {
		return found, nil
	}
	addresses = slices.Clone(addresses)
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	last := make([]symbol, len(addresses)) // of those behind the address before
	_, err := symbols(func(name []byte, at uint64) bool {
		i, _ := slices.BinarySearch(addresses, at)
		if i < len(addresses) && at != 0 && at >= last[i].address {
			last[i] = symbol{at, string(name)}
		}
		return false
	})
	for i, a := range addresses {
		if i > 0 && last[i].name == "" {
			last[i] = last[i-1]
		}
		if last[i].name != "" {
			found[a] = last[i]
		}
	}
	return found, err
}

// plainName is the name of a function in the source: gcc appends .isra.0,
// .constprop.0, .part.0 and .cold to versions of its own.
func plainName(name []byte) []byte {
	plain, _, _ := bytes.Cut(name, []byte("."))
	return plain
}
