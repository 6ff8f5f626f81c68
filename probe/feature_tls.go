package probe

import (
	"fmt"
	"strings"
)

func tlsFeatures() []featureSpec {
	return []featureSpec{
		{id: "ktls.tx", what: "kernel TLS", title: "Kernel TLS", config: "CONFIG_TLS", module: "tls", before: noULP, works: tlsWorks},
		{id: "ktls.tx_zerocopy_ro", what: "TLS_TX_ZEROCOPY_RO", config: "CONFIG_TLS", module: "tls", mayLack: true, devices: true, before: noULP, works: tlsZerocopyWorks},
	}
}

// noULP adds the list that decided whether the test was made. It decides nothing.
func noULP(j *featureJudge) bool {
	j.noteSysctl("net.ipv4.tcp_available_ulp")
	return false
}

// tlsWorks judges a socket that the kernel's TLS was attached to.
func tlsWorks(j *featureJudge) {
	if _, compared := j.seen("equal"); compared {
		j.works("Kernel TLS works: what one side encrypted the other decrypted.")
		return
	}
	if j.is("attached", 1) {
		j.decide(Supported, "Kernel TLS can be attached to a connection; its cipher is not loaded yet, and was not tried because that would load it.")
		return
	}
	j.works("")
}

const tlsOffload = "tls-hw-tx-offload"

// tlsZerocopyWorks judges an accepted TLS_TX_ZEROCOPY_RO. The kernel accepts it
// for software encryption, too, and ignores it there: only a device that
// encrypts makes it mean something.
func tlsZerocopyWorks(j *featureJudge) {
	const accepted = "The kernel accepts TLS_TX_ZEROCOPY_RO, which takes effect only where the network device encrypts"
	var active, off []string
	known := len(j.f.Networks) > 0 && j.f.Networks[0].Error == ""
	if known {
		for _, l := range j.f.Networks[0].Links {
			s, has := l.Features[tlsOffload]
			switch {
			case l.FeaturesError != "":
				known = false
			case has && s.Active:
				active = append(active, l.Name)
			case has && s.Available:
				off = append(off, l.Name)
			}
		}
	}
	switch {
	case len(active) > 0:
		j.evidence(tlsOffload, "active on "+strings.Join(active, ", "))
		j.decide(Supported, fmt.Sprintf("%s; %s can.", accepted, strings.Join(active, ", ")))
	case len(off) > 0:
		j.evidence(tlsOffload, "off on "+strings.Join(off, ", "))
		j.disabled(fmt.Sprintf("%s; %s could, but has it switched off.", accepted, strings.Join(off, ", ")), ethtoolCommand(off[0], tlsOffload))
	case known:
		j.evidence(tlsOffload, "on no device")
		j.unsupported(accepted + "; none here can.")
	default:
		j.evidence(tlsOffload, "unknown")
		j.unknown(accepted + "; the features of the devices here would decide it.")
	}
}
