package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/ebpf"
)

// sight is what the tracer says of one socket.
type sight struct {
	bytes, unknown, resent uint64
	column                 Column
}

// observed joins the flows of a socket.
func observed(s *ebpf.Summary, inode uint64, t Traffic) sight {
	var v sight
	var causes, apis []string
	var copied uint64
	for _, f := range s.Flows {
		if f.Inode != inode {
			continue
		}
		v.bytes += f.Bytes
		v.unknown += f.UnknownBytes
		v.resent += f.RetransmittedData
		copied += f.CopiedBytes
		if f.API != t.called() {
			apis = append(apis, fmt.Sprintf("%d bytes by %s", f.Bytes, f.API))
		}
		for _, c := range f.Causes {
			causes = append(causes, c.ID)
		}
	}
	v.column.Causes = named(causes)
	if v.bytes == 0 {
		v.column.Detail = "no flow of its socket"
		return v
	}
	v.column.CopiedBytes = &copied
	if len(apis) > 0 {
		slices.Sort(apis)
		v.column.Detail = "the tracer took them for " + strings.Join(apis, " and ")
	}
	return v
}

// complete reports whether all that was sent is accounted for.
func (v *sight) complete(sent uint64) bool { return v.bytes >= sent && v.unknown == 0 }
