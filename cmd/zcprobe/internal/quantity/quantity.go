// Package quantity reads and writes sizes, bandwidths and limits as people
// write them.
package quantity

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Unlimited stands for a limit that is none, as RLIM_INFINITY does.
const Unlimited uint64 = math.MaxUint64

// ParseSize reads a number of bytes: 65536, 64K, 64KiB, 8M, 1G. The letters
// are powers of 1024, as in ulimit and ethtool's world.
func ParseSize(s string) (uint64, error) {
	num, unit := split(s)
	var shift uint
	switch strings.TrimSuffix(strings.ToUpper(unit), "IB") {
	case "", "B":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("%q is no size: write bytes, or a number with K, M, G or T (powers of 1024)", s)
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil || n > math.MaxUint64>>shift || n<<shift == Unlimited {
		return 0, fmt.Errorf("%q is no size: write bytes, or a number with K, M, G or T (powers of 1024)", s)
	}
	return n << shift, nil
}

// ParseLimit reads a size or the word unlimited.
func ParseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := ParseSize(s)
	if err != nil {
		return 0, fmt.Errorf("%w, or unlimited", err)
	}
	return n, nil
}

// ParseBandwidth reads bytes per second from 1250000000, 10Gbit, 10Gbit/s or
// 1250MB/s; powers of 1000, as networks count. A number with a bare letter is
// refused: half of those who write 10G mean bits.
func ParseBandwidth(s string) (uint64, error) {
	bad := fmt.Errorf("%q is no bandwidth: write 10Gbit, 1250MB or plain bytes per second", s)
	num, unit := split(strings.TrimSuffix(s, "/s"))
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f <= 0 {
		return 0, bad
	}
	unit = strings.ToLower(unit)
	switch {
	case strings.HasSuffix(unit, "bit"):
		unit = strings.TrimSuffix(unit, "bit")
		f /= 8
	case strings.HasSuffix(unit, "b"):
		unit = strings.TrimSuffix(unit, "b")
	case unit != "":
		return 0, bad
	}
	switch unit {
	case "":
	case "k":
		f *= 1e3
	case "m":
		f *= 1e6
	case "g":
		f *= 1e9
	case "t":
		f *= 1e12
	default:
		return 0, bad
	}
	if f < 1 || f > 1e18 {
		return 0, bad
	}
	return uint64(math.Round(f)), nil
}

// split parts the number at the start of s from the unit behind it.
func split(s string) (num, unit string) {
	i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " ")
}

// Size writes a number of bytes for people: exactly where a unit divides it,
// with one decimal otherwise.
func Size(n uint64) string {
	if n == Unlimited {
		return "unlimited"
	}
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + " " + units[i:i+1] + "iB"
}

// Limit writes a limit for people; nil is unlimited.
func Limit(n *uint64) string {
	if n == nil {
		return "unlimited"
	}
	return Size(*n)
}

// Bandwidth writes bytes per second as network people read it.
func Bandwidth(bytesPerSec uint64) string {
	f := float64(bytesPerSec) * 8
	unit := ""
	for _, u := range []string{"k", "M", "G", "T"} {
		if f < 1000 {
			break
		}
		f /= 1000
		unit = u
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + " " + unit + "bit/s"
}

// Duration writes nanoseconds as time.Duration prints them, 1ms.
func Duration(ns uint64) string {
	return time.Duration(min(ns, math.MaxInt64)).String()
}
