package transmit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
)

// TestSendFileUncopied sends a mapped file on a path without a copy: without being
// asked to it lends the mapping, and the kernel reports no copy.
func TestSendFileUncopied(t *testing.T) {
	sink := newSink(t)
	name := filepath.Join(t.TempDir(), "file")
	const size = 8<<20 + 4097
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	defer kept.Close()
	whole, err := transmit.MapFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Release()
	for name, c := range map[string]struct {
		o    transmit.FileOptions
		size int64
		way  transmit.Backend
	}{
		"kept":     {transmit.FileOptions{Mappings: kept}, -1, transmit.MmapZerocopy},
		"mapping":  {transmit.FileOptions{Mapping: whole, Header: [][]byte{{1}}, Trailer: [][]byte{{2}}}, 1<<20 + 1, transmit.MmapZerocopy},
		"small":    {transmit.FileOptions{Mapping: whole}, transmit.MappedThreshold - 1, transmit.Sendfile},
		"none":     {transmit.FileOptions{}, -1, transmit.Sendfile},
		"snapshot": {transmit.FileOptions{Mapping: whole, Snapshot: true}, -1, transmit.ReadWrite},
		"by name":  {transmit.FileOptions{Backend: transmit.MmapZerocopy}, 5, transmit.MmapZerocopy},
	} {
		t.Run(name, func(t *testing.T) {
			s := sinkSender(t, sink, "tcp4", transmit.Options{OnDowngrade: func(d *transmit.Downgrade) { t.Error(d) }})
			const rounds = 20
			asPlanned := 0
			for range rounds {
				done, err := s.SendFile(t.Context(), f, 0, c.size, c.o)
				if err != nil {
					t.Fatal(err)
				}
				r, err := done.Wait(t.Context())
				if r.Backend == c.way {
					asPlanned++
				}
				// To let the send buffer grow some of it goes by sendfile at times.
				grows := c.way == transmit.MmapZerocopy && r.Backend == transmit.Sendfile
				if err != nil || r.Backend != c.way && !grows {
					t.Errorf("%+v, %v", r, err)
				}
				if r.Backend == transmit.MmapZerocopy && r.Reported != transmit.Uncopied {
					t.Errorf("reported %v", r.Reported)
				}
			}
			if asPlanned < rounds/2 {
				t.Errorf("%d of %d went by %s", asPlanned, rounds, c.way)
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	if st := kept.Stats(); st.Misses != 1 || st.Files != 1 {
		t.Errorf("%+v", st)
	}
}

// TestSendFileForeignMapping: the mapping of another file is not sent, nor that of an
// older state of this one.
func TestSendFileForeignMapping(t *testing.T) {
	sink := newSink(t)
	files := [2]*os.File{}
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(1 << 20); err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	m, err := transmit.MapFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	var told []*transmit.Downgrade
	s := sinkSender(t, sink, "tcp4", transmit.Options{OnDowngrade: func(d *transmit.Downgrade) { told = append(told, d) }})
	c, err := s.SendFile(t.Context(), files[0], 0, -1, transmit.FileOptions{Mapping: m})
	if err != nil || c.Backend() != transmit.Sendfile || len(told) != 1 || told[0].To != transmit.Sendfile {
		t.Errorf("%v, by %s, told %v", err, c.Backend(), told)
	}
	if err := errors.Join(files[1].Truncate(2<<20), s.Drain(t.Context())); err != nil {
		t.Fatal(err)
	}
	if c, err = s.SendFile(t.Context(), files[1], 0, -1, transmit.FileOptions{Mapping: m}); err != nil || c.Backend() != transmit.Sendfile {
		t.Errorf("%v, by %s", err, c.Backend())
	}
}
