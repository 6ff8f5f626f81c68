package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// ID is a check that a policy can name.
type ID struct {
	Name    string   `json:"id"`
	Summary string   `json:"summary"` // what is true when the check passes
	Causes  []string `json:"causes"`  // ids of the catalogue that explain a failure
}

// IDs returns every check there is, in the order of the documentation:
// features, devices, the path, taps, limits, tracing, hazards. The slice is
// the caller's.
func IDs() []ID {
	ids := slices.Clone(fixed)
	for _, c := range probe.Causes() {
		if c.Kind == probe.KindHazard {
			ids = append(ids, ID{"hazard." + c.ID, "this host does not have the hazard " + c.ID, []string{c.ID}})
		}
	}
	for i := range ids {
		ids[i].Causes = append([]string{}, ids[i].Causes...)
	}
	return ids
}

// Lookup returns the check with the given id.
func Lookup(id string) (ID, bool) {
	for _, c := range IDs() {
		if c.Name == id {
			return c, true
		}
	}
	return ID{}, false
}

var fixed = []ID{
	{"sendfile.tcp", "sendfile(2) sends a file over TCP", nil},
	{"sendfile.udp", "sendfile(2) sends a file over UDP", nil},
	{"sendfile.unix", "sendfile(2) sends a file over a unix socket", nil},
	{"sendfile.pipe", "sendfile(2) writes a file into a pipe", nil},
	{"sendfile.file", "sendfile(2) writes a file into a file", nil},
	{"splice.file-tcp", "splice(2) moves a file through a pipe into TCP", nil},
	{"splice.tcp-tcp", "splice(2) moves data from one TCP connection to another", nil},
	{"vmsplice", "vmsplice(2) maps user memory into a pipe", nil},
	{"tee", "tee(2) duplicates what is in a pipe", nil},
	{"pipe.resize", "a pipe can be made larger (F_SETPIPE_SZ)", nil},
	{"copy_file_range", "copy_file_range(2) copies between files in the kernel", nil},
	{"reflink", "the file system of --dir shares blocks between files (FICLONE)", nil},
	{"file.lease", "the file system of --dir grants leases (F_SETLEASE)", nil},
	{"dir.sendfile", "sendfile(2) gives of the files in --dir what read(2) gives", []string{"stale-source"}},
	{"dir.splice", "splice(2) gives of the files in --dir what read(2) gives", []string{"stale-source"}},
	{"memfd.seal", "a memfd can be sealed against change", nil},
	{"memfd_secret", "memfd_secret(2) works", nil},
	{"msg_zerocopy.tcp4", "MSG_ZEROCOPY works on TCP over IPv4", nil},
	{"msg_zerocopy.tcp6", "MSG_ZEROCOPY works on TCP over IPv6", nil},
	{"msg_zerocopy.udp4", "MSG_ZEROCOPY works on UDP over IPv4", nil},
	{"msg_zerocopy.udp6", "MSG_ZEROCOPY works on UDP over IPv6", nil},
	{"msg_zerocopy.vsock", "MSG_ZEROCOPY works on vsock", nil},
	{"udp.gso", "one send makes many UDP datagrams (UDP_SEGMENT)", nil},
	{"io_uring", "io_uring can be used", nil},
	{"io_uring.send_zc", "IORING_OP_SEND_ZC works", nil},
	{"io_uring.sendmsg_zc", "IORING_OP_SENDMSG_ZC works", nil},
	{"io_uring.fixed_buffers", "SEND_ZC works from registered buffers", nil},
	{"ktls.tx", "the kernel encrypts TLS records (TCP_ULP tls)", nil},
	{"ktls.tx_zerocopy_ro", "kernel TLS offers TLS_TX_ZEROCOPY_RO", nil},
	{"tcp_zerocopy_receive", "TCP_ZEROCOPY_RECEIVE maps received payload", nil},
	{"packet_tx_ring", "packet sockets have a transmit ring", nil},
	{"af_xdp", "AF_XDP sockets can be made", nil},
	{"devmem.tx", "payload can be sent from device memory", nil},
	{"tcp.cork", "TCP_CORK joins a header and a file into full segments", nil},

	{"nic.tx-scatter-gather", "the device sends payload from several places of memory", []string{"no-scatter-gather"}},
	{"nic.tx-checksum-ipv4", "the device computes checksums of TCP and UDP over IPv4", []string{"no-tx-csum"}},
	{"nic.tx-checksum-ipv6", "the device computes checksums of TCP and UDP over IPv6", []string{"no-tx-csum"}},
	{"nic.tx-tcp-segmentation", "the device cuts TCP over IPv4 into segments (TSO)", []string{"gso-software"}},
	{"nic.tx-tcp6-segmentation", "the device cuts TCP over IPv6 into segments (TSO)", []string{"gso-software"}},
	{"nic.tx-udp-segmentation", "the device cuts UDP into datagrams (USO)", []string{"gso-software"}},

	{"path.zero-copy", "payload reaches the device that leaves this host without a copy", nil},
	{"tap.none", "no packet socket copies what is sent", []string{"packet-tap"}},
	{"limit.memlock", "locked memory suffices for the stated load", []string{"memlock-limit"}},
	{"limit.optmem", "socket option memory suffices for the stated load", []string{"optmem-limit"}},
	{"limit.pipe", "pipes can be as large as splicing needs", []string{"pipe-slots"}},
	{"tracing.any", "the kernel can be traced in at least one way", nil},
}

// match returns those of ids that a pattern names, an id itself or one with *
// and ?.
func match(pattern string, ids []ID) []string {
	var out []string
	for _, id := range ids {
		if ok, err := path.Match(pattern, id.Name); err == nil && ok {
			out = append(out, id.Name)
		}
	}
	return out
}

// nearest returns the id most like s, or "" if none is much like it.
func nearest(s string, among []string) string {
	best, bestDist := "", len(s)/3+2
	for _, id := range among {
		if d := distance(s, id); d < bestDist {
			best, bestDist = id, d
		}
	}
	return best
}

// DidYouMean is " (did you mean X?)", or nothing.
func DidYouMean(s string, among []string) string {
	if len(s) > 64 {
		return ""
	}
	if n := nearest(strings.ToLower(s), among); n != "" {
		return " (did you mean " + n + "?)"
	}
	return ""
}

// distance is the number of single-byte edits between two strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cur := row[j+1]
			d := prev
			if a[i] != b[j] {
				d++
			}
			row[j+1] = min(d, cur+1, row[j]+1)
			prev = cur
		}
	}
	return row[len(b)]
}

func names(ids []ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.Name
	}
	return out
}
