package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// A Step is one part of a set-up: a place, or a change of it. It is comparable
// with ==, and its String says what it does to the machine.
type Step interface{ fmt.Stringer }

// Steps are a set-up. In files each is an object with the name of its kind as "step",
// and the fields of that kind.
type Steps []Step

// kinds are the steps by their names in files.
func kinds() map[string]Step {
	return map[string]Step{
		"wire": Wire{}, "loopback": Loopback{}, "own-address": OwnAddress{}, "veth": Veth{}, "routed": Routed{}, "bridge": Bridge{},
		"macvlan": Macvlan{}, "tun": Tun{}, "ifb": Swallow{}, "mptcp": Multipath{}, "unix": UnixPair{}, "files": Files{},
		"off": Off{}, "tap": Tap{}, "xdp": XDP{}, "netem": Netem{}, "tbf": TokenBucket{}, "sysctl": Sysctl{}, "mtu": Narrow{},
		"memlock": Memlock{}, "feeder": Feeder{}, "huge-pages": HugePages{},
	}
}

// MarshalJSON writes a set-up as files have it.
func (all Steps) MarshalJSON() ([]byte, error) {
	names := map[reflect.Type]string{}
	for name, s := range kinds() {
		names[reflect.TypeOf(s)] = name
	}
	out := []json.RawMessage{}
	for _, s := range all {
		name := names[reflect.TypeOf(s)]
		if name == "" {
			return nil, fmt.Errorf("the step %v has no name in files", s)
		}
		fields, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		head := fmt.Sprintf(`{"step":%q`, name)
		if string(fields) != "{}" {
			head += ","
		}
		out = append(out, append([]byte(head), fields[1:]...))
	}
	return json.Marshal(out)
}

// stepNames are the names of all kinds, sorted.
func stepNames() []string { return slices.Sorted(maps.Keys(kinds())) }

// A placer is a Step that is a place.
type placer interface {
	// devices are those that it makes, by the namespace they are in.
	devices() map[Where][]string
}

func (Wire) devices() map[Where][]string     { return at("lab0") }
func (Loopback) devices() map[Where][]string { return at() }
func (OwnAddress) devices() map[Where][]string {
	return map[Where][]string{AtSender: {"lo", "ifb0"}, AtPeer: {"lo", "ifb0"}}
}
func (Veth) devices() map[Where][]string {
	return map[Where][]string{AtSender: {"lo", "v0"}, AtPeer: {"lo", "v1"}}
}
func (Routed) devices() map[Where][]string {
	return map[Where][]string{AtSender: {"lo", "v0"}, AtRouter: {"lo", "r0", "r1"}, AtPeer: {"lo", "v1"}}
}
func (Bridge) devices() map[Where][]string {
	return map[Where][]string{AtSender: {"lo", "v0", "br0"}, AtPeer: {"lo", "v1"}}
}
func (Macvlan) devices() map[Where][]string   { return at("lab0", "mv0") }
func (Tun) devices() map[Where][]string       { return at("tun0") }
func (Swallow) devices() map[Where][]string   { return at("ifb0") }
func (Multipath) devices() map[Where][]string { return at() }
func (UnixPair) devices() map[Where][]string  { return at() }
func (Files) devices() map[Where][]string     { return at() }

// at are the devices of a place with the namespace of the sender alone.
func at(devices ...string) map[Where][]string {
	return map[Where][]string{AtSender: append([]string{"lo"}, devices...)}
}
