package scenario

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// mostFeatures bounds what is believed of the kernel; it has some seventy.
const mostFeatures = 1024

// switchOff switches a feature of a device of the thread's namespace off.
func switchOff(device, feature string) error {
	e, err := sys.OpenEthtool()
	if err != nil {
		return err
	}
	return errors.Join(setOff(e, device, feature), e.Close())
}

func setOff(e *sys.Ethtool, device, feature string) error {
	names, err := featureNames(e, device)
	if err != nil {
		return err
	}
	bit := -1
	for i, n := range names {
		if n == feature {
			bit = i
		}
	}
	if bit < 0 {
		return fmt.Errorf("the kernel has no feature %s: %w", feature, errors.ErrUnsupported)
	}
	words := (len(names) + 31) / 32
	// struct ethtool_sfeatures: for each word, which bits are valid and which are on.
	set := request(sys.EthtoolSFeatures, 8+8*words)
	binary.NativeEndian.PutUint32(set[4:], uint32(words))
	binary.NativeEndian.PutUint32(set[8+8*(bit/32):], 1<<(bit%32))
	if err := e.Do(device, set); err != nil {
		return err
	}
	// struct ethtool_gfeatures: available, requested, active, never changed.
	get := request(sys.EthtoolGFeatures, 8+16*words)
	binary.NativeEndian.PutUint32(get[4:], uint32(words))
	if err := e.Do(device, get); err != nil {
		return err
	}
	if active := binary.NativeEndian.Uint32(get[8+16*(bit/32)+8:]); active&(1<<(bit%32)) != 0 {
		return fmt.Errorf("%s of %s stays on: %w", feature, device, errors.ErrUnsupported)
	}
	return nil
}

func request(command uint32, n int) []byte {
	return binary.NativeEndian.AppendUint32(make([]byte, 0, n), command)[:n]
}

// featureNames are in the order of their bits, which differs between kernels.
func featureNames(e *sys.Ethtool, device string) ([]string, error) {
	info := request(sys.EthtoolGSSetInfo, 20) // struct ethtool_sset_info and one count
	binary.NativeEndian.PutUint64(info[8:], 1<<sys.EthtoolFeatureSet)
	if err := e.Do(device, info); err != nil {
		return nil, err
	}
	n := binary.NativeEndian.Uint32(info[16:])
	if n == 0 || n > mostFeatures {
		return nil, fmt.Errorf("device %s has %d features: %w", device, n, errors.ErrUnsupported)
	}
	b := request(sys.EthtoolGStrings, 12+int(n)*sys.EthtoolStringLen) // struct ethtool_gstrings
	binary.NativeEndian.PutUint32(b[4:], sys.EthtoolFeatureSet)
	binary.NativeEndian.PutUint32(b[8:], n)
	if err := e.Do(device, b); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		name := b[12+i*sys.EthtoolStringLen:][:sys.EthtoolStringLen]
		names[i], _, _ = strings.Cut(string(name), "\x00")
	}
	return names, nil
}
