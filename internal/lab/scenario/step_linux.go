package scenario

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"github.com/zcprobe/zcprobe/internal/sys"
)

func (o Off) do(p *place) error {
	d, err := p.door(o.At)
	if err != nil {
		return err
	}
	return d.Do(func() error { return switchOff(o.Device, o.Feature) })
}

// ethPAll is ETH_P_ALL of linux/if_ether.h.
const ethPAll = 3

func (t Tap) do(p *place) error {
	d, err := p.door(t.At)
	if err != nil {
		return err
	}
	return d.Do(func() error {
		index := 0
		if t.Device != "" {
			var err error
			if index, err = indexOf(t.Device); err != nil {
				return err
			}
		}
		fd, err := sys.Socket(sys.AFPacket, sys.SockRaw, 0) // sees nothing before it is bound
		if err != nil {
			return err
		}
		p.later(func() error { return sys.Close(fd) })
		if t.IgnoreOutgoing {
			if err := sys.SetPacketIgnoreOutgoing(fd); err != nil {
				return err
			}
		}
		protocol := t.Protocol
		if protocol == 0 {
			protocol = ethPAll
		}
		return sys.BindPacket(fd, index, protocol)
	})
}

func (x XDP) do(p *place) error {
	d, err := p.door(x.At)
	if err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift RLIMIT_MEMLOCK: %w", err)
	}
	const pass = 2 // XDP_PASS
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pass", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load an XDP program: %w", err)
	}
	p.later(program.Close)
	mode := link.XDPDriverMode
	if x.Generic {
		mode = link.XDPGenericMode
	}
	return d.Do(func() error {
		index, err := indexOf(x.Device)
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: mode})
		if err == nil {
			p.later(l.Close)
		}
		return err
	})
}

// mostDelayed is how many packets wait in netem.
const mostDelayed = 1000

func (q Netem) do(p *place) error {
	return p.qdisc(q.Device, func(n *sys.Netlink, index int) error { return sys.AddNetem(n, index, q.Delay, mostDelayed) })
}

func (q TokenBucket) do(p *place) error {
	return p.qdisc(q.Device, func(n *sys.Netlink, index int) error {
		return sys.AddTokenBucket(n, index, q.Rate, q.Burst, mostWaiting)
	})
}

func (p *place) qdisc(device string, add func(*sys.Netlink, int) error) error {
	d, err := p.door(AtSender)
	if err != nil {
		return err
	}
	return netlinkIn(d, func(n *sys.Netlink) error {
		index, err := indexOf(device)
		if err != nil {
			return err
		}
		return add(n, index)
	})
}

func (s Sysctl) do(p *place) error {
	d, err := p.door(s.At)
	if err != nil {
		return err
	}
	name := "/proc/sys/" + strings.ReplaceAll(s.Name, ".", "/")
	if !strings.HasPrefix(s.Name, "net.") {
		return fmt.Errorf("%s is not of a network namespace: %w", s.Name, errors.ErrUnsupported)
	}
	return d.Do(func() error { return os.WriteFile(name, []byte(s.Value), 0) })
}
