package probe

// copyAPI are the copies that the call itself is made of.
var copyAPI = []Cause{{
	ID: "api-copy", Kind: KindCopy, Expected: true,
	Summary: "The call itself copies: write, send, io_uring send",
	Explanation: "write, writev, send and io_uring SEND copy the payload from user memory into socket buffers, in " +
		"tcp_sendmsg_locked for TCP and __ip_append_data for UDP. sendfile and splice into a unix " +
		"datagram or seqpacket, raw or packet socket copy as well: those sockets ignore MSG_SPLICE_PAGES " +
		"(6.12 on) or only have sock_no_sendpage (to 6.1).",
	Shows: "No completion and no counter; the buffer may be reused as soon as the call returns.",
	Remedy: "Send files with sendfile, and large buffers with MSG_ZEROCOPY or io_uring SEND_ZC where `zcprobe " +
		"path HOST` predicts zero-copy. Small sends are cheaper copied: leave them.",
	Kernels: "read 5.10 to 7.3; verified 6.12 and 6.18", Mechanisms: []Mechanism{AtSend},
	Predicted: true, Observed: true,
}, {
	ID: "read-copy", Kind: KindCopy, Expected: true,
	Summary: "A read/write loop copies on the read side too",
	Explanation: "read copies from the page cache (copy_page_to_iter, copy_folio_to_iter) or from the receive " +
		"queue (skb_copy_datagram_iter) into user memory before anything is sent. A loop of read and " +
		"write pays this and api-copy: two CPU copies of every byte.",
	Shows: "Pairs of read and write calls of the same size; no completion and no counter.",
	Remedy: "From a file use sendfile; from a socket splice through a pipe. In Go, io.Copy does both for " +
		"unwrapped *net.TCPConn and *os.File values.",
	Kernels: "read 5.10 to 7.3; verified 6.18", Mechanisms: []Mechanism{AtSend},
	Predicted: true,
}, {
	ID: "file-to-file", Kind: KindCopy, Expected: true,
	Summary: "File to file is copied once inside the kernel",
	Explanation: "sendfile and splice into a regular file end in iter_file_splice_write, which calls the file's " +
		"write_iter: one copy from page cache to page cache. copy_file_range does the same unless the " +
		"file system shares extents. Only a target opened O_DIRECT is written from the source's pages.",
	Shows:   "No counter; on a file system without reflink the destination's extents are not marked shared.",
	Remedy:  "Share the extents where the file system can (xfs, btrfs): `cp --reflink=always SRC DST`.",
	Kernels: "read 5.10 to 7.3; verified 6.18", Mechanisms: []Mechanism{AtSend},
	Predicted: true,
}, {
	ID: "kernel-crypto", Kind: KindCopy, Expected: true,
	Summary: "Software kTLS writes ciphertext to new pages",
	Explanation: "With TLS in software (tls_sw_sendmsg) the CPU encrypts every record into new pages. The " +
		"plaintext is read in place from user memory or the page cache, so sendfile over kTLS still saves " +
		"one copy against TLS in the application.",
	Shows: "TlsCurrTxSw in /proc/net/tls_stat counts such sockets; MSG_ZEROCOPY on them fails with " +
		"EOPNOTSUPP.",
	Remedy: "Use a NIC that encrypts: `ethtool -K DEV tls-hw-tx-offload on`, before the connection switches " +
		"to TLS. Without one this is the price of encryption.",
	Kernels: "verified 6.1 to 7.3 (the 5.10 kernel tested has no kTLS)", Mechanisms: []Mechanism{AtCrypto},
}}

// copyDevice are copies that come from what the devices of the path cannot do.
var copyDevice = []Cause{{
	ID: "no-scatter-gather", Kind: KindCopy,
	Summary: "A device without scatter-gather: all is copied",
	Explanation: "A packet made of page fragments cannot be handed to a device without tx-scatter-gather. " +
		"validate_xmit_skb linearizes single packets (__pskb_pull_tail), and skb_segment copies GSO " +
		"packets with skb_copy_bits. TCP does not notice when sending, because sk_setup_caps always " +
		"grants its sockets scatter-gather; UDP does, and __ip_append_data copies at send.",
	Shows: "`ethtool -k DEV` shows tx-scatter-gather off. Completions cannot be trusted: skb_segment does " +
		"not mark its copy, so anything from none to all of them say COPIED while everything was copied. " +
		"sendfile reports nothing.",
	Remedy: "`ethtool -K DEV sg on`. Where it is fixed off (ne2k-pci, pcnet32, tulip, e100, cdc_ether; " +
		"virtio_net without VIRTIO_NET_F_CSUM) use another NIC, let the hypervisor offer checksum " +
		"offload, or send with write.",
	Kernels:    "verified 5.10 to 7.3",
	Mechanisms: []Mechanism{AtLinearize, AtSegment, AtSend}, Predicted: true, Observed: true,
}, {
	ID: "no-tx-csum", Kind: KindCopy,
	Summary: "A device cannot checksum: all is copied, then summed",
	Explanation: "A software checksum over pages that may change must be made on a private copy: skb_checksum_help " +
		"and skb_segment linearize every packet with the shared-fragment bit first. The device needs " +
		"tx-checksum-ip-generic or the bit of the address family in use, and for IPv6 extension headers " +
		"the generic one. UDP is copied at send by __ip_append_data. Plain write data is only read, not " +
		"copied again.",
	Shows: "`ethtool -k DEV` shows the tx-checksum bits off. With scatter-gather on, every MSG_ZEROCOPY " +
		"completion says COPIED; sendfile reports nothing and costs more CPU than write.",
	Remedy: "`ethtool -K DEV tx on`. If it is fixed off, or off to cure a broken tunnel, send with write on " +
		"this path.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize, AtSegment, AtSend},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "encap-features", Kind: KindCopy,
	Summary: "Inside a tunnel the NIC offers less than it shows",
	Explanation: "For encapsulated packets netif_skb_features keeps only what is in the device's hw_enc_features. " +
		"Its default holds scatter-gather but no checksum offload (register_netdevice), so VXLAN, Geneve, " +
		"GRE and IPIP payload is linearized and summed although the NIC shows checksum offload on.",
	Shows: "Not visible in ethtool; tx-udp_tnl-segmentation or tx-gre-segmentation off on the NIC is the " +
		"usual hint. MSG_ZEROCOPY completions say COPIED.",
	Remedy: "Use a NIC with tunnel offload and see that it is on: `ethtool -K DEV tx-udp_tnl-segmentation on " +
		"tx-udp_tnl-csum-segmentation on`. Otherwise send with write through the tunnel.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize, AtSegment},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "vlan-features", Kind: KindCopy,
	Summary: "On VLANs the NIC offers less than untagged",
	Explanation: "netif_skb_features keeps only the device's vlan_features for tagged packets, and a VLAN device " +
		"shows the intersection (vlan_dev_fix_features). A NIC whose driver leaves scatter-gather or " +
		"checksum out of vlan_features copies on the VLAN and not beside it.",
	Shows: "`ethtool -k VLANDEV` shows the features off; the parent shows them on.",
	Remedy: "`ethtool -K VLANDEV sg on tx on`; where they are fixed off, use the untagged device or send with " +
		"write.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize, AtSegment, AtSend},
	Predicted: true,
}, {
	ID: "ndo-features-check", Kind: KindCopy,
	Summary: "The driver refuses its offloads for some packets",
	Explanation: "A driver's ndo_features_check may take checksum or segmentation away packet by packet, for long " +
		"headers or tunnel ports that it does not know. netif_skb_features then returns less than the " +
		"device's features, and the packet is linearized or segmented in software.",
	Shows:   "Nothing in ethtool; the driver decides per packet.",
	Remedy:  "Use the tunnel port that the NIC expects (4789 for VXLAN), or update driver and firmware.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize, AtSegment},
}}

// copyUDP are copies of datagrams.
var copyUDP = []Cause{{
	ID: "udp-over-mtu", Kind: KindCopy,
	Summary: "A datagram above the MTU is copied at send",
	Explanation: "__ip_append_data and __ip6_append_data keep user pages only if one packet with a device checksum " +
		"leaves. A datagram that must be fragmented is copied and summed in the send call.",
	Shows: "Every MSG_ZEROCOPY completion says COPIED, and IpFragCreates grows (`nstat -az IpFragCreates`).",
	Remedy: "Send at most MTU minus headers per datagram (1472 bytes of IPv4 at MTU 1500), or set UDP_SEGMENT " +
		"and send many at once.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtSend},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "udp-corked", Kind: KindCopy,
	Summary: "Datagrams built with MSG_MORE or UDP_CORK are copied",
	Explanation: "A datagram that may still grow gets no device checksum, and without one __ip_append_data copies " +
		"the pages. UDP_SEGMENT is the exception. An IPsec policy on the route has the same effect, and looks " +
		"the same from the socket.",
	Shows: "Every MSG_ZEROCOPY completion says COPIED.",
	Remedy: "Gather the parts with one sendmsg and an iovec instead of MSG_MORE or UDP_CORK, or set " +
		"UDP_SEGMENT.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend},
	Reported: true, Observed: true,
}, {
	ID: "udp-linear-head", Kind: KindCopy,
	Summary: "The start of a zero-copy datagram is copied",
	Explanation: "__ip_append_data of 5.10 allocates MAX_HEADER bytes of linear space for a zero-copy datagram and " +
		"fills it with the start of the payload, about 100 bytes. The rest stays in the user's pages.",
	Shows:   "Nothing: completions say not copied.",
	Remedy:  "Nothing to do: it is a few bytes per datagram, and gone in 6.1.",
	Kernels: "read in 5.10; gone in 6.1", Mechanisms: []Mechanism{AtSend}, Predicted: true, Observed: true,
}, {
	ID: "ip-fragment", Kind: KindCopy,
	Summary: "IP fragmentation copies payload into each fragment",
	Explanation: "ip_do_fragment and ip6_fragment first complete the checksum in software (skb_checksum_help, " +
		"which linearizes), then ip_frag_next copies each fragment with skb_copy_bits. It happens when a " +
		"packet without DF is longer than the MTU of its route.",
	Shows:   "IpFragCreates or Ip6FragCreates grow: `nstat -az IpFragCreates Ip6FragCreates`.",
	Remedy:  "Raise the MTU of the path, send smaller datagrams, or use UDP_SEGMENT.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtFragment}, Observed: true,
}}
