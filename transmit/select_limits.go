package transmit

import (
	"fmt"
	"slices"
)

const (
	// accountPage is the unit in which locked memory is counted here, in bytes.
	// Kernels with larger pages count more.
	accountPage = 4096
	// streamSend is the send that a stream of unknown sends is judged by: what
	// one GSO packet holds.
	streamSend = 64 << 10
	// callMost is the size of a call that a large send should be able to make:
	// where locked memory allows only smaller ones, few are in flight at a time.
	callMost = 1 << 20
	// completionLeast is the least option memory that a notification takes, in
	// bytes: what sock_omalloc asks for before it makes one (SKB_TRUESIZE(0), a
	// struct sk_buff and a struct skb_shared_info, on amd64 and arm64).
	completionLeast = 576
)

// callBytes is the size of the largest call that the transfer takes.
func (s *selector) callBytes() int64 {
	n := s.t.SizeBytes
	if n == 0 {
		n = streamSend
	}
	most := s.o.CallBytes
	if most <= 0 {
		most = callMost
	}
	return min(n, most)
}

// ruleMemlock: each call with MSG_ZEROCOPY is charged its pages and two more
// (mm_account_pinned_pages), to the user and not to the process. More than the
// limit is refused for ever.
func ruleMemlock(s *selector, b Backend) objection {
	if !b.Notifies() {
		return objection{}
	}
	l := s.c.Limits
	if l == nil || slices.Contains(l.Unknown, "memlock_bytes") {
		return objection{reason: "The limit of locked memory is not known; a send that it refuses is copied.", causes: []string{"memlock-limit"}}
	}
	if l.MemlockExempt || l.MemlockBytes == nil {
		return objection{}
	}
	limit := *l.MemlockBytes
	need := (uint64(s.callBytes())/accountPage + 2) * accountPage
	s.saw("memlock_bytes", fmt.Sprint(limit))
	switch {
	case need > limit/accountPage*accountPage:
		reason := fmt.Sprintf("One send takes %d bytes of locked memory, and the limit is %d.", need, limit)
		if slices.Contains(l.Unknown, "memlock_exempt") {
			return objection{reason: reason + " Whether it binds this process is not known; a send that it refuses is copied.", causes: []string{"memlock-limit"}}
		}
		return catalogued(isOut, "memlock-limit", reason)
	case l.MemlockUsedBytes != nil && *l.MemlockUsedBytes+need > limit:
		return objection{reason: fmt.Sprintf("Of %d bytes of memory that may be locked %d are locked already, by this process alone; a send that does not fit is copied.",
			limit, *l.MemlockUsedBytes), causes: []string{"memlock-limit"}}
	}
	return objection{}
}

// ruleOptmem: a notification needs option memory of its socket, but for those of
// io_uring, which has memory of its own for them.
func ruleOptmem(s *selector, b Backend) objection {
	l := s.c.Limits
	if !b.Notifies() || b == IoUringSendZC || l == nil || l.OptmemMaxBytes == nil || slices.Contains(l.Unknown, "optmem_max_bytes") || *l.OptmemMaxBytes >= completionLeast {
		return objection{}
	}
	s.saw("optmem_max_bytes", fmt.Sprint(*l.OptmemMaxBytes))
	return catalogued(isOut, "optmem-limit", fmt.Sprintf("A notification takes at least %d bytes of option memory, and the limit is %d.", completionLeast, *l.OptmemMaxBytes))
}
