package scenario

import (
	"errors"
	"fmt"
	"net"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// prepare makes a connection differ from one as it is made.
func (s Socket) prepare(c net.Conn) error {
	return control(c, func(fd int) error {
		if s.Multipath {
			protocol, err := sys.GetsockoptInt(fd, sys.SolSocket, sys.SoProtocol)
			if err != nil {
				return err
			}
			if protocol != sys.ProtoMPTCP {
				return fmt.Errorf("no socket of MPTCP can be had (net.mptcp.enabled): %w", errors.ErrUnsupported)
			}
		}
		if s.Fragments {
			if err := sys.SetsockoptInt(fd, sys.SolIP, sys.IPMTUDiscover, sys.IPPmtuDont); err != nil {
				return err
			}
		}
		if flags := s.stamps(); flags != 0 {
			return sys.SetsockoptInt(fd, sys.SolSocket, sys.SoTimestamping, flags)
		}
		return nil
	})
}

func (s Socket) stamps() int {
	switch {
	case s.HeadersAlone:
		return sys.StampSent | sys.StampReport | sys.StampHeaders
	case s.Timestamps:
		return sys.StampSent | sys.StampReport
	}
	return 0
}

// nobody is the user that has nothing.
const nobody = 65534

// limited runs fn as the user that a place's senders are, on a thread that is
// locked to its goroutine.
func (p *place) limited(fn func() error) (err error) {
	if p.memlock == nil {
		return fn()
	}
	soft, hard, err := sys.Prlimit(0, sys.LimitMemlock)
	if err != nil {
		return err
	}
	if err := sys.SetLimit(sys.LimitMemlock, min(*p.memlock, hard), hard); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.SetLimit(sys.LimitMemlock, soft, hard)) }()
	// The pages are charged to the real user, and the effective one is asked for the
	// capability that lifts the limit (mm_account_pinned_pages). The saved one is the
	// way back.
	if err := sys.SetThreadUIDs(nobody, nobody, 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.SetThreadUIDs(0, 0, 0)) }()
	return fn()
}
