package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// recordedNetworks is networks.json. A host may have thousands of devices with
// the same features, so each set of features is written once.
type recordedNetworks struct {
	FeatureSets []map[string]FeatureState `json:"feature_sets"`
	Networks    []recordedNetwork         `json:"networks"`
}

// The fields named like those of the embedded type stand for them in JSON.
type recordedNetwork struct {
	Network
	Links []recordedLink `json:"links"`
}

type recordedLink struct {
	Link
	Features *int `json:"features"` // index in feature_sets, null if there were none
}

// recordNetworks turns the networks of facts into what is written.
func recordNetworks(networks []Network) recordedNetworks {
	out := recordedNetworks{FeatureSets: []map[string]FeatureState{}, Networks: []recordedNetwork{}}
	for _, n := range networks {
		rn := recordedNetwork{Network: n, Links: []recordedLink{}}
		for _, l := range n.Links {
			rl := recordedLink{Link: l}
			if l.Features != nil {
				i := slices.IndexFunc(out.FeatureSets, func(s map[string]FeatureState) bool { return maps.Equal(s, l.Features) })
				if i < 0 {
					i, out.FeatureSets = len(out.FeatureSets), append(out.FeatureSets, l.Features)
				}
				rl.Features = &i
			}
			rn.Links = append(rn.Links, rl)
		}
		out.Networks = append(out.Networks, rn)
	}
	return out
}

// networks turns what was read into the networks of facts. Each link gets a
// set of its own, so their sum is limited.
func (r recordedNetworks) networks() ([]Network, error) {
	var out []Network
	features := 0
	for _, rn := range r.Networks {
		n := rn.Network
		n.Links = []Link{}
		for _, rl := range rn.Links {
			l := rl.Link
			if i := rl.Features; i != nil {
				if *i < 0 || *i >= len(r.FeatureSets) {
					return nil, fmt.Errorf("link %q has feature set %d of %d", shorten(l.Name), *i, len(r.FeatureSets))
				}
				if features += len(r.FeatureSets[*i]); features > maxRecordItems {
					return nil, fmt.Errorf("more than %d features of all links together", maxRecordItems)
				}
				l.Features = maps.Clone(r.FeatureSets[*i])
			}
			n.Links = append(n.Links, l)
		}
		out = append(out, n)
	}
	return out, nil
}

// encodeJSON prints v for people: what fits on a line is on one.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	layOut(&out, bytes.TrimSpace(b.Bytes()), 0)
	out.WriteByte('\n')
	return out.Bytes(), nil
}

const recordLine = 110 // columns

// layOut prints compact JSON, broken into lines where it is too long for one.
func layOut(out *bytes.Buffer, b []byte, indent int) {
	parts := splitJSON(b)
	flat := len(b) + 2*len(parts) + indent
	if len(parts) == 0 || flat <= recordLine && !bytes.ContainsAny(b[1:], "[{") {
		out.Write(b[:min(1, len(b))])
		if len(parts) == 0 {
			out.Write(b[1:])
			return
		}
		for i, p := range parts {
			if i > 0 {
				out.WriteString(", ")
			}
			out.Write(p.key)
			out.Write(p.value)
		}
		out.Write(b[len(b)-1:])
		return
	}
	margin := bytes.Repeat([]byte(" "), indent)
	out.Write(b[:1])
	for i, p := range parts {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
		out.Write(margin)
		out.WriteString("  ")
		out.Write(p.key)
		layOut(out, p.value, indent+2)
	}
	out.WriteByte('\n')
	out.Write(margin)
	out.Write(b[len(b)-1:])
}

type jsonPart struct{ key, value []byte } // the key with its colon and a space, empty in a list

// splitJSON returns the elements of a list or object in compact JSON, none for
// any other value.
func splitJSON(b []byte) []jsonPart {
	if len(b) <= 2 || b[0] != '[' && b[0] != '{' {
		return nil
	}
	var parts []jsonPart
	var key []byte
	depth, start := 0, 1
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
		case ':':
			if depth == 0 && b[0] == '{' {
				key, start = append(slices.Clip(b[start:i+1]), ' '), i+1
			}
		case ',', ']', '}':
			if depth == 0 {
				parts = append(parts, jsonPart{key, b[start:i]})
				start = i + 1
			}
			if b[i] != ',' {
				depth--
			}
		}
	}
	return parts
}
