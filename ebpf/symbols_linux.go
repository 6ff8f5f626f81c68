package ebpf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

const kallsyms = "/proc/kallsyms"

// errNoAddresses is what the file says to those who may not see addresses.
var errNoAddresses = fmt.Errorf("%s shows no addresses: %w", kallsyms, os.ErrPermission)

// addressesHidden says whether this process may not see addresses: those of many
// functions are 0 then.
func addressesHidden() bool {
	many := 1000
	return errors.Is(symbols(func(_ []byte, address uint64) bool {
		many--
		return address == 0 && many > 0
	}), errNoAddresses)
}

// whoSeesAddresses says what makes the kernel hide them (kallsyms_show_value).
func whoSeesAddresses() string {
	restrict, paranoid := setting("/proc/sys/kernel/kptr_restrict"), setting("/proc/sys/kernel/perf_event_paranoid")
	switch restrict {
	case 0:
		return fmt.Sprintf("kernel.kptr_restrict is 0 and kernel.perf_event_paranoid is %d", paranoid)
	case 1:
		return "kernel.kptr_restrict is 1"
	}
	return fmt.Sprintf("kernel.kptr_restrict is %d, which hides them from everybody: `sysctl -w kernel.kptr_restrict=1` shows them", restrict)
}

// A symbol is a function of the kernel.
type symbol struct {
	address uint64
	name    string
}

// symbols calls see with each function, in the order of the file, until it says that
// it has seen enough. Addresses are all 0 to those who may not see them: that is an
// error.
func symbols(see func(name []byte, address uint64) (more bool)) error {
	f, err := os.Open(kallsyms)
	if err != nil {
		return fmt.Errorf("symbols of the kernel: %w", err)
	}
	defer f.Close()
	hidden, err := readSymbols(f, see)
	if err != nil {
		return fmt.Errorf("symbols of the kernel: %s: %w", kallsyms, err)
	}
	if hidden {
		return fmt.Errorf("symbols of the kernel: %w", errNoAddresses)
	}
	return nil
}

func readSymbols(r io.Reader, see func([]byte, uint64) bool) (hidden bool, err error) {
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
			return false, fmt.Errorf("line %q: %w", line, err)
		}
		hidden = hidden && address == 0
		if !see(name, address) {
			break
		}
	}
	return hidden, lines.Err()
}

// addressesOf returns the addresses of functions, those that exist. It reads no
// further than to the last of them: the kernel takes tens of milliseconds to write
// out all of its symbols.
func addressesOf(names ...string) (map[string]uint64, error) {
	at := make(map[string]uint64, len(names))
	err := symbols(func(name []byte, address uint64) bool {
		if slices.Contains(names, string(name)) {
			at[string(name)] = address
		}
		return len(at) < len(names)
	})
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
	err := symbols(func(name []byte, at uint64) bool {
		i, _ := slices.BinarySearch(addresses, at)
		if i < len(addresses) && at != 0 && at >= last[i].address {
			last[i] = symbol{at, string(name)}
		}
		return true
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
