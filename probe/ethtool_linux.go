package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// ethtoolKernel is what answers ethtool requests: sys.Ethtool, or a test's.
type ethtoolKernel interface {
	// Do makes one SIOCETHTOOL call; buf holds the request and takes the reply.
	Do(name string, buf []byte) error
	// NameOf returns the present name of the device with that index.
	NameOf(index int) (string, error)
}

// Where the features of a link come from.
const (
	fromGFeatures = gfeaturesSource
	fromLegacy    = "legacy ioctls"
)

// goneENODEV is the FeaturesError of a device that vanished while it was read.
const goneENODEV = "ENODEV"

// maxFeatures bounds what a kernel may claim to have; Linux 7.3 has 62.
const maxFeatures = 1024

// readEthtool fills in what ethtool tells about each link. Names that are not
// in the list just read are never asked for: SIOCETHTOOL on a missing name can
// load a module.
func readEthtool(ctx context.Context, links []rawLink) error {
	if len(links) == 0 {
		return nil
	}
	e, err := sys.OpenEthtool()
	if err != nil {
		for i := range links {
			links[i].FeaturesError = featuresError(err)
		}
		return err
	}
	defer e.Close()
	r := ethtoolReader{kernel: e}
	for i := range links {
		if err := ctx.Err(); err != nil {
			links[i].FeaturesError = "not read: " + err.Error()
			continue
		}
		r.read(&links[i].Link)
	}
	return ctx.Err()
}

// ethtoolReader reads devices one after the other. The names of the features
// belong to the kernel, not to a device, and are read once.
type ethtoolReader struct {
	kernel ethtoolKernel
	names  []string
}

func (r *ethtoolReader) read(l *Link) {
	driver, bus, err := r.driver(l.Name)
	if err == nil {
		l.Driver, l.Bus = driver, bus
	}
	l.Features, l.FeaturesSource, err = r.features(l.Name)
	if err != nil {
		l.FeaturesError = featuresError(err)
	}
	// The ioctls go by name. If the device has another one by now, the
	// answers may be those of its successor.
	now, err := r.kernel.NameOf(l.Index)
	switch {
	case errors.Is(err, syscall.ENODEV):
		l.Features, l.FeaturesSource, l.FeaturesError = nil, "", goneENODEV
	case err == nil && now != l.Name:
		l.Features, l.FeaturesSource = nil, ""
		l.Driver, l.Bus = "", ""
		l.FeaturesError = fmt.Sprintf("renamed to %q while it was read", now)
	case l.FeaturesError == goneENODEV:
		// Still in the list: a device that is suspended or being reset is
		// not present to ethtool.
		l.FeaturesError = "the device is listed but not present (ENODEV): suspended, or being reset"
	}
}

// features returns the state of every feature the kernel has a name for.
func (r *ethtoolReader) features(dev string) (map[string]FeatureState, string, error) {
	f, err := r.gfeatures(dev)
	if err == nil {
		return f, fromGFeatures, nil
	}
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, "", err
	}
	f, legacyErr := r.legacy(dev)
	if legacyErr != nil {
		return nil, "", errors.Join(err, legacyErr)
	}
	return f, fromLegacy, nil
}

func (r *ethtoolReader) gfeatures(dev string) (map[string]FeatureState, error) {
	if r.names == nil {
		names, err := r.featureNames(dev)
		if err != nil {
			return nil, err
		}
		r.names = names
	}
	words := (len(r.names) + 31) / 32
	buf := ethtoolRequest(sys.EthtoolGFeatures, 8+16*words)
	binary.NativeEndian.PutUint32(buf[4:], uint32(words))
	if err := r.kernel.Do(dev, buf); err != nil {
		return nil, err
	}
	return decodeFeatures(r.names, buf)
}

// ethtoolRequest returns a request of n bytes for a command.
func ethtoolRequest(cmd uint32, n int) []byte {
	return binary.NativeEndian.AppendUint32(make([]byte, 0, n), cmd)[:n]
}

// featureNames reads the string set of feature names. Positions are no ABI,
// they differ between kernels.
func (r *ethtoolReader) featureNames(dev string) ([]string, error) {
	info := ethtoolRequest(sys.EthtoolGSSetInfo, 20) // struct ethtool_sset_info, one count
	binary.NativeEndian.PutUint64(info[8:], 1<<sys.EthtoolFeatureSet)
	if err := r.kernel.Do(dev, info); err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint64(info[8:]) == 0 {
		return nil, sys.Wrap("ethtool feature names of "+dev, syscall.EOPNOTSUPP)
	}
	n := binary.NativeEndian.Uint32(info[16:])
	if n == 0 || n > maxFeatures {
		return nil, fmt.Errorf("ethtool feature names of %s: %d names", dev, n)
	}
	// The kernel writes as many as it has, however many were asked for; the
	// number is a constant of the kernel, the doubled room costs nothing.
	buf := ethtoolRequest(sys.EthtoolGStrings, 12+2*int(n)*sys.EthtoolStringLen)
	binary.NativeEndian.PutUint32(buf[4:], sys.EthtoolFeatureSet)
	binary.NativeEndian.PutUint32(buf[8:], n)
	if err := r.kernel.Do(dev, buf); err != nil {
		return nil, err
	}
	names, err := decodeStrings(buf, n)
	if err != nil {
		return nil, fmt.Errorf("ethtool feature names of %s: %w", dev, err)
	}
	return names, nil
}

// decodeStrings decodes a struct ethtool_gstrings that must hold n strings.
// Positions without a name are "".
func decodeStrings(buf []byte, n uint32) ([]string, error) {
	if got := binary.NativeEndian.Uint32(buf[8:]); got != n {
		return nil, fmt.Errorf("%d strings, %d were announced", got, n)
	}
	data := buf[12:]
	if uint64(len(data)) < uint64(n)*sys.EthtoolStringLen {
		return nil, fmt.Errorf("%d strings do not fit %d bytes", n, len(data))
	}
	names := make([]string, n)
	seen := make(map[string]bool, n)
	for i := range names {
		raw := data[i*sys.EthtoolStringLen:][:sys.EthtoolStringLen]
		end := bytes.IndexByte(raw, 0)
		if end < 0 {
			return nil, fmt.Errorf("string %d has no end: %q", i, raw)
		}
		names[i] = string(raw[:end])
		if names[i] != "" && seen[names[i]] {
			return nil, fmt.Errorf("string %d is there twice: %q", i, names[i])
		}
		seen[names[i]] = true
	}
	return names, nil
}

// decodeFeatures decodes a struct ethtool_gfeatures: blocks of 32 features,
// each with four words.
func decodeFeatures(names []string, buf []byte) (map[string]FeatureState, error) {
	words := binary.NativeEndian.Uint32(buf[4:])
	data := buf[8:]
	if int64(words)*32 < int64(len(names)) {
		return nil, fmt.Errorf("ethtool features: %d names, but states for %d", len(names), int64(words)*32)
	}
	if len(data)/16*32 < len(names) {
		return nil, fmt.Errorf("ethtool features: %d names do not fit %d bytes", len(names), len(data))
	}
	out := make(map[string]FeatureState, len(names))
	for i, name := range names {
		if name == "" {
			continue
		}
		block := data[i/32*16:]
		bit := func(word int) bool {
			return binary.NativeEndian.Uint32(block[4*word:])>>(i%32)&1 != 0
		}
		out[name] = FeatureState{Available: bit(0), Requested: bit(1), Active: bit(2), NeverChanged: bit(3)}
	}
	return out, nil
}

// legacyGroups are the features that each old ioctl joins by OR
// (ethtool_get_feature_mask). Only an answer of 0 says something about each.
var legacyGroups = []struct {
	cmd   uint32
	names []string
}{
	{sys.EthtoolGSG, []string{"tx-scatter-gather", "tx-scatter-gather-fraglist"}},
	{sys.EthtoolGTxCsum, []string{
		"tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-ip-generic",
		"tx-checksum-fcoe-crc", "tx-checksum-sctp",
	}},
	{sys.EthtoolGTSO, []string{
		"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation",
	}},
	{sys.EthtoolGGSO, []string{"tx-generic-segmentation"}},
}

// legacy asks the ioctls from before ETHTOOL_GFEATURES (Linux 2.6.39). What they
// leave open is missing in the result: of a group that is on, which member; of
// any, whether it can be changed. An ioctl that is refused leaves its group open.
func (r *ethtoolReader) legacy(dev string) (map[string]FeatureState, error) {
	out := map[string]FeatureState{}
	var errs []error
	for _, g := range legacyGroups {
		buf := ethtoolRequest(g.cmd, 8) // struct ethtool_value
		if err := r.kernel.Do(dev, buf); err != nil {
			errs = append(errs, err)
			continue
		}
		on := binary.NativeEndian.Uint32(buf[4:]) != 0
		if on && len(g.names) > 1 {
			continue
		}
		for _, name := range g.names {
			out[name] = FeatureState{Active: on}
		}
	}
	if len(errs) == len(legacyGroups) {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// driver reads ETHTOOL_GDRVINFO: the driver's name and the address on its bus.
func (r *ethtoolReader) driver(dev string) (driver, bus string, err error) {
	buf := ethtoolRequest(sys.EthtoolGDrvInfo, sys.EthtoolDrvInfoSize)
	if err := r.kernel.Do(dev, buf); err != nil {
		return "", "", err
	}
	// struct ethtool_drvinfo: cmd, then driver, version, fw_version and
	// bus_info of 32 bytes each. A missing NUL ends at the field's end.
	field := func(at int) string {
		s, _, _ := bytes.Cut(buf[at:at+32], []byte{0})
		return string(s)
	}
	return field(4), field(100), nil
}

// featuresError is what a link's FeaturesError says for err: the errno's name
// where one decided.
func featuresError(err error) string {
	if name := sys.ErrnoName(err); name != "" {
		return name
	}
	if errors.Is(err, fs.ErrPermission) {
		return "EPERM"
	}
	return err.Error()
}
