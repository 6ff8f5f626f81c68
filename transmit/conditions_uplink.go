package transmit

import "github.com/zcprobe/zcprobe/probe"

// Uplink is a device that leads out of the host, or one below it.
type Uplink struct {
	Device        string
	ScatterGather *bool // nil: unknown
	Checksum4     *bool // computes checksums of IPv4
	Checksum6     *bool
	Tapped        *bool // a packet socket copies what is lent to it

	SGRemedy, ChecksumRemedy, TapRemedy string
}

// uplinks says what the devices that lead out of the host have, where no path
// was asked for.
func uplinks(r *probe.Report) []Uplink {
	var out []Uplink
	for _, name := range r.EgressDevices() {
		u := Uplink{Device: name}
		u.ScatterGather, u.SGRemedy = deviceFeature(r, "nic.tx-scatter-gather", name)
		u.Checksum4, u.ChecksumRemedy = deviceFeature(r, "nic.tx-checksum-ipv4", name)
		u.Checksum6, _ = deviceFeature(r, "nic.tx-checksum-ipv6", name)
		u.Tapped, u.TapRemedy = tapped(r, name)
		out = append(out, u)
	}
	return out
}

func deviceFeature(r *probe.Report, id, device string) (*bool, string) {
	for _, f := range r.Features {
		if f.ID != id || f.Subject != device {
			continue
		}
		switch f.Status {
		case probe.Supported:
			return new(true), ""
		case probe.Unsupported, probe.Disabled:
			return new(false), f.Remedy
		}
		return nil, ""
	}
	return nil, ""
}

// tapped says whether a packet socket copies what is sent on a device, by the
// judgement of the report's checks.
func tapped(r *probe.Report, device string) (*bool, string) {
	if len(r.TapChecks) == 0 {
		return nil, ""
	}
	no := new(false)
	for _, c := range r.TapChecks {
		if c.Subject != "" && c.Subject != device {
			continue
		}
		switch c.Status {
		case probe.Fail:
			return new(true), c.Remedy
		case probe.Pass:
		default:
			no = nil
		}
	}
	return no, ""
}

// copies says whether lent pages are copied on the device, and by which cause.
func (u *Uplink) copies(v6 bool) (copies *bool, cause, remedy string) {
	csum := u.Checksum4
	if v6 {
		csum = u.Checksum6
	}
	switch {
	case isFalse(u.ScatterGather):
		return new(true), "no-scatter-gather", u.SGRemedy
	case isFalse(csum):
		return new(true), "no-tx-csum", u.ChecksumRemedy
	case isTrue(u.Tapped):
		return new(true), "packet-tap", u.TapRemedy
	case u.ScatterGather == nil || csum == nil || u.Tapped == nil:
		return nil, "", ""
	}
	return new(false), "", ""
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }
