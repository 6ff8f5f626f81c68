package transmit

import (
	"fmt"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// splicesFirst returns the crossover of splice with sendfile if splice is to be
// preferred for a file: where it was measured, the send is as large, and pipes that are
// large enough can be had for every connection. Both refer to the page cache; splice
// takes 256 pages at a time where sendfile takes 16, and a pipe of that size counts
// against what all processes of the user may have. Beyond that each new pipe has two
// pages, those inside of sendfile as well (too_many_pipe_buffers_soft, fs/pipe.c), so
// that a few percent of CPU time are no reason to come near it.
func (s *selector) splicesFirst() (c Crossover, source string, ok bool) {
	if s.t.Source != SourceFile || s.t.Protocol != TCP || s.t.SizeBytes == 0 || s.o.Calibration == nil {
		return c, "", false
	}
	c, source = s.o.crossover(Splice, s.t.Cache)
	return c, source, s.t.SizeBytes >= c.at(s.t.Goal) && s.pipesForAll()
}

// pipesForAll reports whether every connection of the stated load can have a pipe of
// pipeWant bytes.
func (s *selector) pipesForAll() bool {
	l := s.c.Limits
	if l == nil || slices.Contains(l.Unknown, "pipe_max_bytes") || l.PipeMaxBytes != nil && *l.PipeMaxBytes < pipeWant {
		return false
	}
	if l.PipePagesExempt {
		return true
	}
	need := max(l.Connections, 1) * (pipeWant / accountPage)
	enough := func(limit *uint64, name string) bool {
		return !slices.Contains(l.Unknown, name) && (limit == nil || *limit >= need)
	}
	return enough(l.PipeUserSoftPages, "pipe_user_pages_soft") && enough(l.PipeUserHardPages, "pipe_user_pages_hard")
}

// preferSplice puts splice in front of sendfile where it is to be preferred, and notes
// what by.
func (s *selector) preferSplice() {
	c, source, ok := s.splicesFirst()
	i := slices.IndexFunc(s.views, func(v view) bool { return v.backend == Sendfile })
	j := slices.IndexFunc(s.views, func(v view) bool { return v.backend == Splice })
	if !ok || i < 0 || j < i {
		return
	}
	s.views[j].evidence = append(s.views[j].evidence, probe.Evidence{Source: "crossover of splice", Value: c.String() + ", " + source})
	s.views[i], s.views[j] = s.views[j], s.views[i]
	s.order[i], s.order[j] = Splice, Sendfile
}

// spliceWords says why splice is preferred, "" if that is not by its crossover.
func (s *selector) spliceWords() string {
	c, source, ok := s.splicesFirst()
	if !ok {
		return ""
	}
	return fmt.Sprintf("from %d bytes on splice takes less CPU time than sendfile (%s)", c.at(s.t.Goal), source)
}
