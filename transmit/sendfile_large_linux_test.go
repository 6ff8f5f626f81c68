package transmit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
)

const gib = 1 << 30

// largeFile is sparse, but for what is around the places where numbers overflow.
func largeFile(t *testing.T) (*os.File, []int64) {
	f := memfd(t, nil)
	if err := f.Truncate(5*gib + 1); err != nil {
		t.Fatal(err)
	}
	places := []int64{2 * gib, 4 * gib, 5*gib - 8000, 0x7ffff000}
	for i, at := range places {
		if _, err := f.WriteAt(pattern(16 << 10)[i*100:i*100+8000], at-4000); err != nil {
			t.Fatal(err)
		}
	}
	return f, places
}

// notButCold fails for downgrades but those of files that are not in memory, as holes
// are not.
func notButCold(t *testing.T) func(*Downgrade) {
	return func(d *Downgrade) {
		if d.Cause != "cold-file" {
			t.Error(d)
		}
	}
}

// TestSendFileFarOffsets sends ranges across 2, 4 and 5 GiB.
func TestSendFileFarOffsets(t *testing.T) {
	f, places := largeFile(t)
	for _, way := range fileWays() {
		t.Run(string(way), func(t *testing.T) {
			out, in := tcpPair(t)
			got := received(in)
			s, err := NewSender(out, Options{Backend: way, OnDowngrade: notButCold(t)})
			if err != nil {
				t.Fatal(err)
			}
			var want []byte
			for _, at := range places {
				for _, r := range [][2]int64{{at - 5000, 10000}, {at - 1, 2}, {at, 1}, {at - 4096, 4096}} {
					b := make([]byte, r[1])
					if _, err := f.ReadAt(b, r[0]); err != nil {
						t.Fatal(err)
					}
					want = append(want, b...)
					if _, err := s.SendFile(t.Context(), f, r[0], r[1], FileOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			closeWrite(t, s)
			if !bytes.Equal(<-got, want) {
				t.Error("something else arrived")
			}
		})
	}
}

// TestSendFileLarge sends more than 2 GiB in one go.
func TestSendFileLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("needs half a minute")
	}
	f, places := largeFile(t)
	for way, lengths := range map[Backend][]int64{
		Sendfile: {2*gib - 1, 2*gib + 1, -1}, Splice: {2*gib + 1}, MmapWrite: {2*gib + 1}, MmapZerocopy: {2*gib + 1}, ReadWrite: {2*gib + 1},
	} {
		for _, length := range lengths {
			t.Run(fmt.Sprintf("%s/%d", way, length), func(t *testing.T) {
				out, in := tcpPair(t)
				s, err := NewSender(out, Options{Backend: way, OnDowngrade: notButCold(t)})
				if err != nil {
					t.Fatal(err)
				}
				const offset = 3
				seen := make(chan int, 1)
				n := make(chan int64, 1)
				go func() {
					at, found := int64(0), 0
					b, want := make([]byte, 1<<20), make([]byte, 1<<20)
					for {
						m, err := io.ReadFull(in, b)
						for _, p := range places {
							if p-4000 < offset+at+int64(m) && p+4000 > offset+at && m > 0 {
								found++
								if _, err := f.ReadAt(want[:m], offset+at); err != nil || !bytes.Equal(b[:m], want[:m]) {
									t.Errorf("something else arrived at %d", at)
								}
							}
						}
						if at += int64(m); err != nil {
							break
						}
					}
					seen <- found
					n <- at
				}()
				c, err := s.SendFile(t.Context(), f, offset, length, FileOptions{})
				want := length
				if length < 0 {
					want = 5*gib + 1 - offset
				}
				if err != nil || c.Bytes() != want || c.Backend() != way && way != MmapZerocopy {
					t.Fatalf("%d bytes by %s, %v", c.Bytes(), c.Backend(), err)
				}
				closeWrite(t, s)
				if found, got := <-seen, <-n; got != want || found == 0 {
					t.Errorf("%d bytes arrived of %d, with %d places", got, want, found)
				}
			})
		}
	}
}
