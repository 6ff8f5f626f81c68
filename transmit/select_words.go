package transmit

import (
	"fmt"
	"strings"
)

// kind names the transfer inside a sentence.
func (s *selector) kind() string {
	to := map[Protocol]string{TCP: "TCP", UDP: "UDP", Unix: "a unix socket", ToFile: "a file", ToPipe: "a pipe"}[s.t.Protocol]
	if to == "" {
		to = string(s.t.Protocol)
	}
	from := "from a " + string(s.t.Source)
	if s.t.Source == SourceMemory {
		from = "from memory"
	}
	return from + " to " + to
}

// why says what speaks for the chosen backend.
func (s *selector) why(p *Plan) string {
	switch p.Backend {
	case IoUringSendZC:
		text := "The pages of registered buffers are sent as they are, without pinning them again, and the ring says when the kernel is done with them"
		if s.t.SizeBytes == 0 {
			return fmt.Sprintf("%s; sends below %d bytes are copied.", text, p.ThresholdBytes)
		}
		return fmt.Sprintf("%s; from %d bytes on that is cheaper than copying.", text, p.ThresholdBytes)
	case MsgZerocopy:
		text := "The kernel sends the pages themselves and says when it is done with them"
		if s.t.SizeBytes == 0 {
			return fmt.Sprintf("%s; sends below %d bytes are copied.", text, p.ThresholdBytes)
		}
		return fmt.Sprintf("%s; from %d bytes on that is cheaper than copying.", text, p.ThresholdBytes)
	case MmapZerocopy:
		return fmt.Sprintf("The mapping is kept, and from %d bytes on lending its pages costs about half of what sendfile does.", p.ThresholdBytes)
	case Sendfile, Splice:
		return s.whyReferences(p.Backend)
	case CopyFileRange:
		return "The kernel moves the data, and shares it where the file system can."
	case MmapWrite:
		return "The mapping is kept, so that one copy is left: from the page cache to the socket."
	}
	return s.whyCopy(p)
}

func (s *selector) whyReferences(b Backend) string {
	text := "The packets refer to the page cache, so that the call copies nothing"
	switch {
	case s.t.Protocol == ToFile:
		text = "The kernel copies once, where a program would twice"
	case s.t.Source != SourceFile:
		text = "Pages move through a pipe from one end to the other, so that the calls copy nothing"
	case s.t.Protocol == ToPipe:
		text = "The pipe refers to the page cache, so that the call copies nothing"
	}
	if r := s.predicted(b); r != nil && r.ZeroCopy == "yes" {
		text += ", and nor does this path"
	}
	if words := s.spliceWords(); b == Splice && words != "" {
		text += "; " + words
	}
	return text + "."
}

// whyCopy gives the objection to what would have copied less as the reason.
func (s *selector) whyCopy(p *Plan) string {
	for i := range s.views {
		v := &s.views[i]
		if v.against == nil || isLoop(v.backend) {
			continue
		}
		switch v.backend {
		case MmapZerocopy, MmapWrite, Vmsplice, IoUringSend:
			continue // others come first in anyone's mind
		case IoUringSendZC:
			if !s.t.Ring {
				continue
			}
		}
		return fmt.Sprintf("No %s: %s", v.backend, lowerFirst(v.against.reason))
	}
	if p.Backend == ReadWrite {
		return "It works from anything to anything."
	}
	return "A copy is the way " + s.kind() + "."
}

// lost says why a backend was not chosen.
func (s *selector) lost(v *view, p *Plan) Rejected {
	r := Rejected{Backend: v.backend, Causes: []string{}}
	switch {
	case v.against != nil:
		r.Reason, r.Remedy = v.against.reason, v.against.remedy
		if v.against.causes != nil {
			r.Causes = v.against.causes
		}
	case s.before(v.backend, p.Backend):
		r.Reason = p.Reason // another was asked for
	default:
		r.Reason, r.Causes = s.behind(v.backend, p.Backend)
	}
	return r
}

// before reports whether a is preferred to b.
func (s *selector) before(a, b Backend) bool {
	for _, x := range s.order {
		if x == a || x == b {
			return x == a
		}
	}
	return false
}

// behind says what a backend costs that the chosen one does not.
func (s *selector) behind(b, chosen Backend) (string, []string) {
	switch b {
	case MsgZerocopy:
		return "It pins the pages of every send, and says through the error queue of each connection what a ring says at once.", []string{}
	case Splice:
		return "It takes a pipe and two calls for what " + string(chosen) + " does in one.", []string{}
	case Sendfile:
		switch chosen {
		case CopyFileRange:
			return "It copies what copy_file_range can share.", []string{"file-to-file"}
		case Splice:
			if words := s.spliceWords(); words != "" {
				return sentence(words), []string{"pipe-slots"}
			}
			return "Some kernels copy there, where splice does not.", []string{"sendfile-to-pipe"}
		}
		return "It takes references page by page, sixteen at a time, and never says when the file may change.", []string{"pipe-slots"}
	case MmapWrite, Write, Writev:
		return "It copies once, in the call.", []string{"api-copy"}
	case ReadWrite:
		return "It copies twice, and takes two calls for each piece.", []string{"read-copy", "api-copy"}
	}
	return strings.TrimSuffix(string(chosen)+" costs less", ".") + ".", []string{}
}
