package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// settle bounds the wait for a device to appear and for its link to come up.
// Under emulation both take a second at most.
const settle = 10 * time.Second

// configureNICs brings lo and the plan's devices up and gives these their
// addresses.
func configureNICs(nics []wire.NIC) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	if err := bringUp(s, "lo"); err != nil {
		return err
	}
	for _, nic := range nics {
		var dev string
		if !within(settle, func() bool { dev = deviceOf(nic.MAC); return dev != "" }) {
			return fmt.Errorf("no device with address %s appeared", nic.MAC)
		}
		if nic.Addr != "" {
			if err := setAddress(s, dev, nic.Addr); err != nil {
				return err
			}
		}
		if err := bringUp(s, dev); err != nil {
			return err
		}
	}
	for _, nic := range nics {
		carrier := filepath.Join("/sys/class/net", deviceOf(nic.MAC), "carrier")
		if !within(settle, func() bool { b, _ := os.ReadFile(carrier); return strings.TrimSpace(string(b)) == "1" }) {
			return fmt.Errorf("no link on the device with address %s", nic.MAC)
		}
	}
	return nil
}

func within(limit time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

func deviceOf(mac string) string {
	files, err := filepath.Glob("/sys/class/net/*/address")
	if err != nil {
		return ""
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == mac {
			return filepath.Base(filepath.Dir(f))
		}
	}
	return ""
}

func setAddress(s int, dev, addr string) error {
	for _, a := range []struct {
		req uint
		ip  net.IP
	}{{unix.SIOCSIFADDR, net.ParseIP(addr)}, {unix.SIOCSIFNETMASK, net.IPv4(255, 255, 255, 0)}} {
		ifr, err := unix.NewIfreq(dev)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(a.ip.To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, a.req, ifr); err != nil {
			return fmt.Errorf("address of %s: %w", dev, err)
		}
	}
	return nil
}

func bringUp(s int, dev string) error {
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("flags of %s: %w", dev, err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring %s up: %w", dev, err)
	}
	return nil
}
