package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Device is the name of the sender's device. It is the near end of a veth pair,
// so its features can be switched to make the kernel copy.
const Device = "lab0"

// The addresses are those set aside for benchmarks, RFC 2544 and RFC 5180.
const (
	nearV4 = "198.18.0.1/24"
	sinkV4 = "198.18.0.2"
	nearV6 = "2001:2::1/64"
	sinkV6 = "2001:2::2"
)

// The indices of the two devices differ, and are not those that the kernel
// would give: it learns of a carrier up to a second later if a device has the
// index of its peer.
const (
	loopback  = 1
	nearIndex = 10
	farIndex  = 11
)

// Locally administered addresses.
func nearMAC() [6]byte { return [6]byte{0x02, 0, 0, 0, 0, nearIndex} }
func farMAC() [6]byte  { return [6]byte{0x02, 0, 0, 0, 0, farIndex} }

// A wire is the veth pair with a namespace at each end. The far end needs no
// address, for nothing there reaches an IP stack.
type wire struct {
	near, far Namespace
	paired    bool  // there are devices
	noIPv6    error // why there is none
}

func newWire(mtu int) (*wire, error) {
	w := &wire{}
	var err error
	if w.near, err = NewNamespace(); err != nil {
		return nil, err
	}
	if w.far, err = NewNamespace(); err == nil {
		err = w.near.Do(func() error { return w.makePair(mtu) })
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// withNetlink runs fn with an rtnetlink socket of the thread's namespace.
func withNetlink(fn func(*sys.Netlink) error) error {
	n, err := sys.OpenNetlink(sys.NetlinkRoute)
	if err != nil {
		return err
	}
	return errors.Join(fn(n), n.Close())
}

func (w *wire) makePair(mtu int) error {
	near := sys.VethEnd{Name: Device, Index: nearIndex, MAC: nearMAC(), MTU: mtu}
	far := sys.VethEnd{Name: "lab1", Index: farIndex, MAC: farMAC(), MTU: mtu}
	return withNetlink(func(n *sys.Netlink) error {
		if err := sys.NewVeth(n, near, far, w.far.file); err != nil {
			return err
		}
		w.paired = true
		return sys.SetLinkUp(n, loopback)
	})
}

// up attaches the program to the far end, brings both ends up and gives the
// near one its addresses.
func (w *wire) up(program int) error {
	err := w.far.Do(func() error {
		return withNetlink(func(n *sys.Netlink) error {
			if err := sys.AddClsact(n, farIndex); err != nil {
				return err
			}
			if err := sys.AddIngressBPF(n, farIndex, program, "take"); err != nil {
				return err
			}
			return quietUp(n, farIndex)
		})
	})
	if err != nil {
		return err
	}
	err = w.near.Do(func() error {
		return withNetlink(func(n *sys.Netlink) error {
			if err := patientTCP(); err != nil {
				return err
			}
			if err := quietUp(n, nearIndex); err != nil {
				return err
			}
			if err := runs(n, nearIndex); err != nil {
				return err
			}
			return w.address(n)
		})
	})
	if err != nil {
		return err
	}
	return w.far.Do(func() error {
		return withNetlink(func(n *sys.Netlink) error { return runs(n, farIndex) })
	})
}

// patience is how long the sender waits at least before it sends a packet again.
const patience = time.Second

// patientTCP switches tail loss probes off in the namespace of the thread: with
// them a sender repeats its last packet when that is not answered within some
// milliseconds, and on a busy machine the acker waits longer for its CPU.
// Where settings cannot be changed, as in some containers, it does without.
func patientTCP() error {
	err := os.WriteFile("/proc/sys/net/ipv4/tcp_early_retrans", []byte("0"), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

// quietUp brings a device up that sends nothing of its own.
func quietUp(n *sys.Netlink, index int) error {
	if err := sys.SetNoLinkLocal(n, index); err != nil && !sys.Unsupported(err) {
		return err
	}
	return sys.SetLinkUp(n, index)
}

// runs waits until a device sends what it is given.
func runs(n *sys.Netlink, index int) error {
	return settle(fmt.Sprintf("device %d has no carrier", index), func() (bool, error) {
		return sys.LinkRuns(n, index)
	})
}

// settle waits for what the kernel does by itself, in a worker.
func settle(otherwise string, done func() (bool, error)) error {
	const step, most = time.Millisecond, 5000
	for range most {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		time.Sleep(step)
	}
	return fmt.Errorf("%s after %v", otherwise, most*step)
}

func (w *wire) address(n *sys.Netlink) error {
	for _, a := range []struct{ near, sink string }{{nearV4, sinkV4}, {nearV6, sinkV6}} {
		prefix, sink := netip.MustParsePrefix(a.near), netip.MustParseAddr(a.sink)
		err := sys.AddAddress(n, nearIndex, prefix)
		if err == nil {
			err = sys.AddNeighbour(n, nearIndex, sink, farMAC())
		}
		if err == nil {
			err = sys.AddPatientRoute(n, nearIndex, sink, patience)
		}
		if err == nil {
			err = settle("no route to "+a.near, func() (bool, error) {
				r, err := sys.GetRoute(n, sys.RouteRequest{Dst: prefix.Addr()})
				return r.Type == sys.RouteLocal, err
			})
		}
		switch {
		case err == nil:
		case sink.Is6():
			w.noIPv6 = err // switched off on this machine: go without
		default:
			return err
		}
	}
	return nil
}

// close deletes the devices, even while sockets keep the namespace, and lets go
// of the namespaces.
func (w *wire) close() error {
	var errs []error
	if w.paired {
		errs = append(errs, w.far.Do(func() error {
			return withNetlink(func(n *sys.Netlink) error { return sys.DeleteLink(n, farIndex) })
		}))
	}
	for _, ns := range []Namespace{w.near, w.far} {
		errs = append(errs, ns.Close())
	}
	return errors.Join(errs...)
}
