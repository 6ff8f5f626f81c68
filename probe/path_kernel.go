package probe

import "slices"

// Ids of the functional tests that a path needs beside those of the kernel's
// features.
const (
	testForward = "path.forward-copy"
	testUDPHead = "path.udp-head"
)

// What PathQuery.IPsecTCP and IPsecUDP hold.
const (
	ipsecNone    = "none"
	ipsecApplies = "applies"
	ipsecBlock   = "blocks"
	ipsecLikely  = "likely"
	ipsecUnread  = "unread"
)

func findOutcome(f *Facts, id string) *Outcome {
	i := slices.IndexFunc(f.Outcomes, func(o Outcome) bool { return o.ID == id })
	if i < 0 {
		return nil
	}
	return &f.Outcomes[i]
}

// judgeForwardCopies says whether pages lent by an application are copied where
// an IP stack takes a packet from a device, even if it only forwards it: so to
// 6.12 (__netif_receive_skb_core), no more in 6.18 (ip_local_deliver_finish).
// The test sends a datagram over lo that IP takes in and throws away: a copy
// can then only have been made on the way in. A tap on lo hides the answer.
func judgeForwardCopies(f *Facts) *bool {
	o := findOutcome(f, testForward)
	if o == nil {
		return nil
	}
	code, ok := o.Seen["completion_code"]
	switch {
	case !ok:
		return nil
	case code == 0:
		return new(false)
	}
	if lo := loopbackLink(f); lo == nil || !on(feature(lo, featSG)) || !on(txChecksum(lo, false)) || lo.MTU < forwardTestMTU || lo.XDP != "" || (lo.TCIngress != "" && lo.TCIngress != tcUnknown) {
		return nil // it may have been copied in the call
	} else if copies, _, _ := tapEffect(f, "", lo.Name); !off(copies) {
		return nil
	} else if copies, _ := tapReceives(f, "", lo.Name, false); !off(copies) {
		return nil
	}
	return new(true)
}

// Bytes that the test of forwarding sends, and the MTU that they need.
const (
	forwardTestBytes = 1000
	forwardTestMTU   = forwardTestBytes + 28
)

func loopbackLink(f *Facts) *Link {
	if len(f.Networks) == 0 {
		return nil
	}
	for i := range f.Networks[0].Links {
		if l := &f.Networks[0].Links[i]; l.ARPHRD == arphrdLoopback {
			return l
		}
	}
	return nil
}

// judgeUDPHead returns how many bytes of a zero-copy datagram are copied into
// the packet head, as 5.10 does; 0 if none are or it is not known.
func judgeUDPHead(f *Facts) int {
	o := findOutcome(f, testUDPHead)
	if o == nil {
		return 0
	}
	return int(min(max(o.Seen["head_bytes"], 0), udpHeadTestBytes))
}

// udpHeadTestBytes is the size of the datagram in the test of the packet head.
const udpHeadTestBytes = 1000

// udpSplice is how the kernel treats pages that are spliced to UDP.
type udpSplice struct {
	keepsPages *bool // false: it copies them
	alwaysSums *bool // it reads them for the checksum even where the device could
}

// judgeUDPSplice reads the test of sendfile to UDP, which overwrites the file
// after sending it.
func judgeUDPSplice(f *Facts) udpSplice {
	var s udpSplice
	o := findOutcome(f, "sendfile.udp")
	if o == nil {
		return s
	}
	if ref, ok := o.Seen["page_ref"]; ok {
		s.keepsPages = new(ref == 1)
		s.alwaysSums = new(o.Seen["summed_at_send"] == 1)
	}
	return s
}
