package probe

import "fmt"

func otherFeatures() []featureSpec {
	return []featureSpec{
		{id: "copy_file_range", what: "copy_file_range", works: func(j *featureJudge) {
			j.works("copy_file_range works; whether it shares extents instead of copying is the file system's affair (probe --dir).")
		}},
		{id: "memfd.seal", what: "sealing a memfd", title: "Sealing a memfd", config: "CONFIG_MEMFD_CREATE", invalid: true},
		{id: "memfd_secret", what: "memfd_secret", config: "CONFIG_SECRETMEM", before: secretOff, works: func(j *featureJudge) {
			j.works("memfd_secret works; what is in such memory can never be sent without a copy.")
		}},
		{id: "tcp.cork", what: "TCP_CORK", works: corkWorks},
		{id: "tcp_zerocopy_receive", what: "TCP_ZEROCOPY_RECEIVE", works: receiveWorks},
		{id: "packet_tx_ring", what: "PACKET_TX_RING", config: "CONFIG_PACKET", module: "af_packet", needs: capNetRaw, remedy: "give the service CAP_NET_RAW"},
		{id: "af_xdp", what: "AF_XDP", config: "CONFIG_XDP_SOCKETS", needs: capNetRaw, module: "xsk", remedy: "give the service CAP_NET_RAW", works: func(j *featureJudge) {
			j.decide(Supported, "AF_XDP sockets can be made and given memory; whether a device sends from it without a copy is its driver's affair.")
		}},
		{id: "devmem.tx", what: "sending from device memory", title: "Sending from device memory", config: "CONFIG_NET_DEVMEM", devices: true, before: devmemNone, works: func(j *featureJudge) {
			j.decide(Supported, "A network device here takes device memory for sending.")
		}},
	}
}

// secretOff judges memfd_secret that is built in but not switched on, the
// default before Linux 6.5, and memory over the limit.
func secretOff(j *featureJudge) bool {
	s, failed := j.lastFailure()
	if failed && s.Errno == "EFAULT" {
		j.refused(s)
		return true
	}
	if !failed || s.Op != "memfd_secret" || s.Errno != "ENOSYS" {
		return false
	}
	param, built := j.f.Host.ModuleParams["secretmem.enable"]
	off := param == "N" || param == "0"
	if !off && (j.filtered() || !built && j.config() != "y") {
		return false
	}
	if built && param != "" {
		j.evidence("/sys/module/secretmem/parameters/enable", param)
	}
	j.disabled("memfd_secret is built in but switched off at boot.", "add secretmem.enable=1 to the kernel command line and reboot")
	return true
}

func corkWorks(j *featureJudge) {
	if j.is("held", 0) {
		j.unsupported("TCP_CORK is accepted but does not hold small segments back.")
		return
	}
	j.works("TCP_CORK holds small segments back until it is cleared.")
}

func receiveWorks(j *featureJudge) {
	mapped, ok := j.seen("mapped_bytes")
	switch {
	case ok && mapped > 0:
		j.works(fmt.Sprintf("TCP_ZEROCOPY_RECEIVE works: %d received bytes were mapped instead of copied.", mapped))
	case ok:
		j.decide(Supported, "TCP_ZEROCOPY_RECEIVE is there; the test data lay in no whole page, so nothing was mapped.")
	default:
		j.works("")
	}
}

// devmemNone judges what the devices answered.
func devmemNone(j *featureJudge) bool {
	switch {
	case j.is("operation", 0):
		j.unsupported("This kernel has no operation to bind device memory for sending (Linux 6.16 has).")
	case j.is("able", 0) && len(j.o.Steps) > 0 && j.o.Steps[len(j.o.Steps)-1].Errno == "EOPNOTSUPP":
		j.unsupported("The kernel can send from device memory, but no network device here can.")
	default:
		return false
	}
	return true
}
