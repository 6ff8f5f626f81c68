package quantity

import (
	"strconv"
	"testing"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "65536": 65536, "64K": 65536, "64KiB": 65536, "64k": 65536, "8M": 8 << 20,
		"1G": 1 << 30, "2T": 2 << 40, "17B": 17, "64 KiB": 65536, "16777215T": 16777215 << 40,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "K", "-1", "1.5M", "64X", "64KB", "16777216T", "18446744073709551615",
		"99999999999999999999", "1e3", "unlimited", "0x10", "6 4K",
	} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", in, got)
		}
	}
	if got, err := ParseLimit("unlimited"); err != nil || got != Unlimited {
		t.Errorf("ParseLimit(unlimited) = %d, %v", got, err)
	}
}

func TestParseBandwidth(t *testing.T) {
	for in, want := range map[string]uint64{
		"10Gbit": 1_250_000_000, "10gbit/s": 1_250_000_000, "10 Gbit/s": 1_250_000_000,
		"2.5Gbit": 312_500_000, "1250MB/s": 1_250_000_000, "1000": 1000, "8bit": 1, "9600bit": 1200,
	} {
		if got, err := ParseBandwidth(in); err != nil || got != want {
			t.Errorf("ParseBandwidth(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "10G", "fast", "0Gbit", "-1Gbit", "1e9Gbit", "NaN", "Inf", "10Gbyte", "9999999Tbit"} {
		if got, err := ParseBandwidth(in); err == nil {
			t.Errorf("ParseBandwidth(%q) = %d, want an error", in, got)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Size(0), "0 B"}, {Size(1023), "1023 B"}, {Size(65536), "64 KiB"}, {Size(1 << 20), "1 MiB"},
		{Size(1<<20 + 1<<19), "1.5 MiB"}, {Size(Unlimited), "unlimited"}, {Limit(nil), "unlimited"},
		{Bandwidth(1_250_000_000), "10 Gbit/s"}, {Bandwidth(1), "8 bit/s"}, {Bandwidth(12_500_000_000), "100 Gbit/s"},
		{Duration(1_000_000), "1ms"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// Whatever is read is a number that the units allow, and reads the same when written
// out in full.
func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"64K", "64 KiB", "16777215T", "unlimited", "10Gbit/s", "1250MB/s", "2.5Gbit", "18446744073709551615", "9999999Tbit"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil {
			if again, err := ParseSize(strconv.FormatUint(n, 10)); err != nil || again != n || n == Unlimited {
				t.Errorf("size %q is %d, and that is %d, %v", s, n, again, err)
			}
			if limit, err := ParseLimit(s); err != nil || limit != n {
				t.Errorf("size %q is %d, as a limit %d, %v", s, n, limit, err)
			}
		} else if n != 0 {
			t.Errorf("size %q: %d and %v", s, n, err)
		}
		if n, err := ParseBandwidth(s); err == nil && (n == 0 || n > 1e18) || err != nil && n != 0 {
			t.Errorf("bandwidth %q: %d, %v", s, n, err)
		}
	})
}
