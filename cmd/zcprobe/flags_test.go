package main

import (
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Whatever stands behind a flag is refused, or within what the flag is about.
func FuzzFlagValues(f *testing.F) {
	for _, s := range []string{"0", "1", "-1", "4294967295", "4294967296", "9223372036854775807", "8388607T", "1024", "65507", "1ms", "1h0m0.1s", "0x10", " 7", "+7", "tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseUID(s); err == nil && n == 1<<32-1 {
			t.Errorf("user %q is %d", s, n)
		}
		if d, err := parseRTT(s); err == nil && (d <= 0 || d > time.Hour) {
			t.Errorf("time %q is %v", s, d)
		}
		if n, err := parseConnections(s); err == nil && (n == 0 || n > 1e8) {
			t.Errorf("connections %q are %d", s, n)
		}
		if n, err := parseTimes(s); err == nil && n <= 0 {
			t.Errorf("times %q are %d", s, n)
		}
		if n, err := parsePID(s); err == nil && n <= 0 {
			t.Errorf("process %q is %d", s, n)
		}
		if n, err := parseTransferSize(s); err == nil && n < 0 {
			t.Errorf("size %q is %d", s, n)
		}
		if n, err := parseCount(s); err == nil && (n < 1 || n > mostParts) {
			t.Errorf("parts %q are %d", s, n)
		}
		if n, err := parseSegment(s); err == nil && (n < 1 || n > 65507) {
			t.Errorf("segment %q is %d", s, n)
		}
		if b, err := transmit.ParseBackend(s); err == nil && string(b) != s {
			t.Errorf("backend %q is %q", s, b)
		}
	})
}
