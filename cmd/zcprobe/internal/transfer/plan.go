package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/transmit"
)

// transferOf describes a send to package transmit.
func (o *SendOptions) transferOf(protocol string, v6 bool) transmit.Transfer {
	t := transmit.Transfer{Source: o.Source.Kind, Protocol: transmit.Protocol(protocol), IPv6: v6}
	t.Ring = usesRing(o.Backend) || usesRing(o.Env) // made for whoever asks for it
	switch {
	case protocol == "udp":
		t.SizeBytes = o.DatagramBytes
		if o.Source.Length >= 0 {
			t.SizeBytes = min(t.SizeBytes, o.Source.Length)
		}
	case o.Source.Kind == transmit.SourceMemory:
		t.SizeBytes = o.Source.BufferBytes
	case o.Source.Length > 0:
		t.SizeBytes = o.Source.Length
	}
	return t
}

// A RefusedError says that the backend that was asked for cannot be used.
type RefusedError struct {
	Backend transmit.Backend
	Reason  string
}

// Error says why.
func (e *RefusedError) Error() string { return fmt.Sprintf("--backend %s: %s", e.Backend, e.Reason) }

// Unwrap is errors.ErrUnsupported.
func (e *RefusedError) Unwrap() error { return errors.ErrUnsupported }

// plan chooses the backend. What was asked for and cannot be had is an error: to
// send by another would answer another question.
func (o *SendOptions) plan(c transmit.Conditions, t transmit.Transfer) (transmit.Plan, error) {
	so := transmit.SelectOptions{Env: o.Env, Force: o.Backend}
	if o.Calibration != nil {
		so.Calibration = o.Calibration(c.Path)
	}
	p := transmit.Select(c, t, so)
	if t.Protocol == transmit.UDP && t.Source != transmit.SourceMemory && o.Backend == "" && o.Env == "" && !p.Backend.Copies() {
		p.Rejected = append([]transmit.Rejected{{Backend: p.Backend, Reason: filled, Causes: []string{}}}, p.Rejected...)
		p.Rejected = slices.DeleteFunc(p.Rejected, func(r transmit.Rejected) bool { return r.Backend == transmit.ReadWrite })
		p.Backend, p.Reason, p.Notes = transmit.ReadWrite, filled, nil
	}
	if o.Backend == "" || o.Env != "" {
		return p, nil
	}
	i := slices.IndexFunc(p.Rejected, func(r transmit.Rejected) bool { return r.Backend == o.Backend })
	if i >= 0 {
		_, reason, ok := strings.Cut(p.Rejected[i].Reason, "not obeyed: ")
		if !ok {
			reason = p.Rejected[i].Reason
		}
		return p, &RefusedError{Backend: o.Backend, Reason: reason}
	}
	return p, nil
}

// filled is why no datagram refers to a file.
const filled = "Datagrams are filled in memory, one by one."

// can refuses what was asked for and could be had, but not from here: datagrams are
// filled in memory, and memory is only lent where a completion gives it back.
func (o *SendOptions) can(p *transmit.Plan, protocol string) error {
	b := p.Backend
	switch {
	case o.Backend == "" && o.Env == "":
		return nil
	case o.Source.Kind == transmit.SourceMemory && b == transmit.Vmsplice:
		return &RefusedError{Backend: b, Reason: "nothing would tell when the memory may be used again"}
	case o.Source.Kind != transmit.SourceMemory && protocol == "udp" && !b.Copies():
		return &RefusedError{Backend: b, Reason: filled}
	}
	return nil
}

func selectionOf(o *SendOptions, p *transmit.Plan) Selection {
	of := selection.Of(transmit.Transfer{}, "", *p)
	s := Selection{Asked: string(o.Backend), Backend: of.Backend, Reason: of.Reason, Notes: of.Notes, Evidence: of.Evidence, Rejected: of.Rejected}
	if o.Env != "" {
		s.Asked = string(o.Env)
	}
	return s
}
