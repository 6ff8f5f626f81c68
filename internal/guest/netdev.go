package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// drivers names the modules that a QEMU device model needs.
var drivers = map[string][]string{
	"e1000":          {"e1000"},
	"e1000e":         {"e1000e"},
	"i82559c":        {"e100"},
	"ne2k_pci":       {"ne2k-pci"},
	"pcnet":          {"pcnet32"},
	"rtl8139":        {"8139cp"},
	"tulip":          {"tulip"},
	"usb-net":        {"xhci_pci", "cdc_ether"},
	"virtio-net-pci": {"virtio_pci", "virtio_net"},
	"vmxnet3":        {"vmxnet3"},
}

func macOf(nic int) string    { return fmt.Sprintf("52:54:00:12:34:%02x", 0x10+nic) }
func netOf(nic int) string    { return fmt.Sprintf("10.0.%d", 10+nic) }
func modelOf(s string) string { m, _, _ := strings.Cut(s, ","); return m }

// devices are the models of all of a guest's network devices, in their order.
func (c *Config) devices() []string { return slices.Concat(c.NICs, c.Taps, c.Wire) }

// plan is what the guest's first process is told of the devices.
func (c *Config) plan() (nics []wire.NIC, modules []string, err error) {
	for i, model := range c.devices() {
		need, ok := drivers[modelOf(model)]
		if !ok {
			return nil, nil, fmt.Errorf("no driver is known for %s", model)
		}
		modules = append(modules, need...)
		nic := wire.NIC{MAC: macOf(i)}
		if i < len(c.NICs)+len(c.Taps) {
			nic.Addr = netOf(i) + ".15"
		}
		nics = append(nics, nic)
	}
	return nics, modules, nil
}

// sinkFile is where QEMU keeps what port 9 of a device's network was sent.
func sinkFile(dir string, nic int) string { return filepath.Join(dir, fmt.Sprintf("sink%d", nic)) }

// netdevs are the arguments for QEMU that make the devices. No packet leaves its
// process but by taps, which are alone in a namespace of their own.
func netdevs(c *Config, dir string) (args []string) {
	if slices.ContainsFunc(c.devices(), func(d string) bool { return modelOf(d) == "usb-net" }) {
		args = append(args, "-device", "qemu-xhci,id=usb")
	}
	for i, model := range c.devices() {
		net := netOf(i)
		switch tapped := i - len(c.NICs); {
		case tapped < 0:
			sink := fmt.Sprintf("null,id=sink%d", i)
			if c.KeepSunk {
				sink = fmt.Sprintf("file,id=sink%d,path=%s", i, sinkFile(dir, i))
			}
			args = append(args, "-chardev", sink, "-netdev",
				fmt.Sprintf("user,id=net%d,restrict=on,ipv6=off,net=%s.0/24,host=%s.2,dhcpstart=%s.15,guestfwd=tcp:%s.100:9-chardev:sink%d",
					i, net, net, net, net, i))
		case tapped < len(c.Taps):
			args = append(args, "-netdev", fmt.Sprintf("tap,id=net%d,fd=%d", i, tapFD(tapped)))
		default:
			args = append(args, "-netdev", fmt.Sprintf("hubport,id=net%d,hubid=0", i))
		}
		device := fmt.Sprintf("%s,netdev=net%d,mac=%s", model, i, macOf(i))
		if modelOf(model) == "usb-net" {
			device += ",bus=usb.0"
		}
		args = append(args, "-device", device)
	}
	return args
}

// sunk reads what port 9 of each device's network was sent.
func (c *Config) sunk(dir string, taps []*tap) (all [][]byte, err error) {
	for i := range c.NICs {
		data, err := os.ReadFile(sinkFile(dir, i))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	for _, t := range taps {
		data, err := t.received()
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// MAC is the address of a guest's network device number n.
func MAC(n int) string { return macOf(n) }
