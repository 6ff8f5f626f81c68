package ebpf

import "github.com/zcprobe/zcprobe/probe"

// A finding is what one observation shows.
type finding struct {
	id        string
	mechanism probe.Mechanism
	device    string
	bytes     uint64
	lost      uint64 // bytes that had come to the driver's door uncopied, and were copied here
}

// judge names the causes of one observation, none where what was seen does not
// tell. Where several things would have made the kernel copy, it names the one
// that the kernel looks at first.
func judge(o observation) []finding {
	switch o.place {
	case placeQueued:
		return judgeSend(o)
	case placeDoor, placeLower:
		return judgeDevice(o)
	case placeAfter:
		return judgeAfter(o)
	case placeMultipath:
		id := "mptcp"
		if o.api.copies() {
			id = "api-copy"
		}
		return []finding{{id: id, mechanism: probe.AtSend, bytes: o.bytes}}
	}
	return nil
}

// judgeSend is about payload that the kernel had written itself by the time it
// came to a device.
func judgeSend(o observation) []finding {
	var found []finding
	if id, device := sendCause(o); id != "" {
		mechanism := probe.AtSend
		if id == "copy-splice-read" || id == "odirect-source" {
			mechanism = probe.AtSpliceRead
		}
		found = append(found, finding{id: id, mechanism: mechanism, device: device, bytes: o.bytes})
	}
	return append(found, sendPass(o)...)
}

func sendCause(o observation) (id, device string) {
	if !o.memory.kernels() {
		return "", ""
	}
	switch {
	case o.api.copies():
		return "api-copy", ""
	case o.api == APISendfile, o.api == APISplice, o.api == APIVmsplice:
		return spliceCause(o)
	case o.api == APIUnknown:
		return "", ""
	case o.evidence.has(seenNoSOZeroCopy):
		return "no-so-zerocopy", ""
	case o.evidence.has(seenOpening):
		return "fastopen-or-unconnected", ""
	case o.udp() && o.evidence.has(seenFragment):
		return "udp-over-mtu", ""
	case o.udp() && o.evidence.has(seenNoSG):
		return "no-scatter-gather", o.device.Name
	case o.udp() && o.evidence.has(seenNoChecksum):
		return "no-tx-csum", o.device.Name
	case o.udp() && o.evidence.has(seenCorked) && !o.evidence.has(seenPartial):
		return "udp-corked", ""
	case o.evidence.has(seenULP):
		return "ulp", ""
	case o.udp() && !o.evidence.has(seenPartial):
		// The kernel sums it although it is one packet and the device could: more was to
		// come when it was begun, or IPsec puts headers before it (__ip_append_data).
		return "udp-corked", ""
	}
	return "", ""
}

func spliceCause(o observation) (id, device string) {
	switch o.evidence & sourceMask {
	case sourceRead:
		return "copy-splice-read", ""
	case sourceMemory:
		return "odirect-source", ""
	case sourceWritten: // by write to the pipe, which is what copied
		return "api-copy", ""
	case sourceCache, sourceUser:
		switch {
		case o.udp() && o.evidence.has(seenSendpage|seenPartial):
			// What ip_append_page of Linux 5.10 takes is begun with MSG_MORE and never left
			// to the device. Others copy, whatever the device can do.
			return "udp-splice-copy", ""
		case o.udp() && o.evidence.has(seenNoSG):
			return "no-scatter-gather", o.device.Name
		case o.udp():
			return "udp-splice-copy", ""
		}
	}
	return "", ""
}

// sendPass is the checksum of a datagram that is not left to the device.
func sendPass(o observation) []finding {
	if !o.udp() || o.evidence.has(seenPartial) {
		return nil
	}
	f := finding{id: "checksum-pass", mechanism: probe.AtSend, bytes: o.bytes}
	if o.evidence.has(seenNoChecksum) {
		f.device = o.device.Name
	}
	if o.memory.lent() && (o.api == APISendfile || o.api == APISplice || o.api == APIVmsplice) {
		f.id = "udp-splice-csum"
	}
	return []finding{f}
}

// flattened says whether payload that lay in pages when it was queued lies in the head
// of its packet.
func (o observation) flattened() bool {
	return o.memory == memoryLinear && o.was != memoryLinear && o.was != memoryUnknown
}

// judgeDevice is about what the device could not do itself.
func judgeDevice(o observation) []finding {
	var found []finding
	device := o.device.Name
	// Pages that were spliced may be shared, and are made private before they are summed,
	// even those that the kernel has written itself (skb_has_shared_frag).
	spliced := o.api == APISendfile || o.api == APISplice || o.api == APIVmsplice
	changed := o.was.lent() && o.memory.kernels() || spliced && o.flattened()
	switch {
	case o.flattened() && o.evidence.has(seenNoSG):
		f := finding{id: "no-scatter-gather", mechanism: probe.AtLinearize, device: device, bytes: o.bytes}
		if o.evidence.has(seenGSO) {
			f.mechanism = probe.AtSegment
		}
		found = append(found, f)
	case changed && o.evidence.has(seenNoChecksum):
		found = append(found, finding{id: "no-tx-csum", mechanism: probe.AtLinearize, device: device, bytes: o.bytes})
	case changed && o.evidence.has(seenEncap):
		found = append(found, finding{id: "encap-features", mechanism: probe.AtLinearize, device: device, bytes: o.bytes})
	}
	if changed && o.place == placeLower {
		for i := range found {
			found[i].lost = o.bytes
		}
	}
	// What of a datagram was not left to the first device was summed in the call.
	if o.evidence.has(seenNoChecksum) && (!o.udp() || o.place == placeLower && o.evidence.has(seenPartial)) {
		found = append(found, finding{id: "checksum-pass", mechanism: probe.AtLinearize, device: device, bytes: o.bytes})
	}
	if o.memory.lent() && o.evidence.has(seenLent|seenTap) {
		found = append(found, finding{id: "packet-tap", mechanism: probe.AtClone, device: device, bytes: o.bytes, lost: o.bytes})
	}
	return found
}

// judgeAfter is about packets that a program or a stack of this machine got.
func judgeAfter(o observation) []finding {
	met := o.evidence & metMask
	lost := o.lent
	if o.evidence.has(seenTap) {
		lost = 0 // it was copied at the door already
	}
	f := finding{device: o.device.Name, lost: lost}
	if o.evidence.has(seenStamped) && o.memory.lent() {
		return []finding{{id: "tx-timestamp", mechanism: probe.AtClone, bytes: o.lent, lost: lost}}
	}
	if met == metQueue {
		return judgePassedOn(o, lost)
	}
	switch {
	case met == metFreed && o.where == "skb_pp_cow_data":
		f.id, f.mechanism, f.bytes = "veth-xdp", probe.AtIngress, o.bytes
		if o.evidence.has(seenReceived) {
			f.id = "xdp-generic"
		}
	case met == metReader && o.device.Type == "tun":
		f.id, f.mechanism, f.bytes = "tun-tap", probe.AtDriver, o.bytes
	case (met == metSocket || met == metReader) && o.evidence.has(seenXDP|seenReceived) && o.memory == memoryLinear:
		f.id, f.mechanism, f.bytes = "xdp-generic", probe.AtIngress, o.bytes
	case o.lent == 0 || !o.memory.kernels():
		return nil
	case met == metFreed && !o.evidence.has(seenReceived) && o.memory == memoryLinear:
		f.id, f.mechanism, f.bytes = "driver-linearize", probe.AtDriver, o.lent
	case !o.evidence.has(seenLent):
		// Pages of a file that was removed look like the kernel's, and nothing
		// replaces pages that nobody is told about.
		return nil
	case (met == metSocket || met == metReader) && o.memory == memoryLinear:
		f.bytes = o.lent // made linear on its way up, and nothing says why
	case met == metSocket || met == metReader:
		f.id, f.mechanism, f.bytes, f.device = "loopback-delivery", probe.AtIngress, o.lent, ""
	case o.evidence.has(seenTapIn):
		f.id, f.mechanism, f.bytes = "packet-tap", probe.AtIngress, o.lent
	case o.evidence.has(seenReceived) && o.memory == memoryKernel:
		// Freed or dropped behind the place that makes pages private.
		f.id, f.mechanism, f.bytes, f.device = "loopback-delivery", probe.AtIngress, o.lent, ""
	default:
		f.bytes = o.lent // copied, and nothing says why
	}
	return []finding{f}
}

// judgePassedOn is about packets of which lost bytes had not been copied when they came,
// and that now enter another device: what copied them on their way in, and what this
// device does.
func judgePassedOn(o observation, lost uint64) []finding {
	var found []finding
	device := o.device.Name
	if o.lent > 0 && o.memory.kernels() && o.evidence.has(seenLent) { // without see judgeAfter
		found = append(found, finding{id: "veth-routed-ingress", mechanism: probe.AtIngress, device: device, bytes: o.lent, lost: lost})
		lost = 0
	}
	if o.memory == memoryLinear {
		return found
	}
	mechanism := probe.AtLinearize
	if o.evidence.has(seenGSO) {
		mechanism = probe.AtSegment
	}
	switch {
	case o.evidence.has(seenNoSG):
		found = append(found, finding{id: "no-scatter-gather", mechanism: mechanism, device: device, bytes: o.bytes, lost: lost})
		lost = 0
	case o.evidence.has(seenNoChecksum) && o.memory.lent():
		// Pages that may change are made private before they are summed.
		found = append(found, finding{id: "no-tx-csum", mechanism: probe.AtLinearize, device: device, bytes: o.lent, lost: lost})
		lost = 0
	case o.evidence.has(seenTapOut):
		found = append(found, finding{id: "packet-tap", mechanism: probe.AtClone, device: device, bytes: o.lent, lost: lost})
	}
	if o.evidence.has(seenNoChecksum) {
		found = append(found, finding{id: "checksum-pass", mechanism: probe.AtLinearize, device: device, bytes: o.bytes})
	}
	return found
}
