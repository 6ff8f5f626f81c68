package probe

// copySocket are copies that the state or protocol of the socket causes.
var copySocket = []Cause{{
	ID: "no-so-zerocopy", Kind: KindCopy,
	Summary: "Without SO_ZEROCOPY, MSG_ZEROCOPY is silently ignored",
	Explanation: "tcp_sendmsg_locked and __ip_append_data ignore MSG_ZEROCOPY unless the socket has SO_ZEROCOPY " +
		"set. The payload is copied, and no completion will ever come: a program that waits for one " +
		"hangs.",
	Shows: "The send succeeds and the error queue stays empty.",
	Remedy: "setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1) before sending; set on a listener it is inherited by " +
		"accepted sockets. io_uring SEND_ZC needs no such option.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Observed: true,
}, {
	ID: "fastopen-or-unconnected", Kind: KindCopy,
	Summary: "Data sent with the SYN or before a route is copied",
	Explanation: "tcp_send_syn_data copies the payload of a SYN (MSG_FASTOPEN, TCP_FASTOPEN_CONNECT). A first " +
		"write before the socket has a route finds no scatter-gather in sk_route_caps, and " +
		"tcp_sendmsg_locked copies.",
	Shows:   "The MSG_ZEROCOPY completion of the first send says COPIED.",
	Remedy:  "Send the first piece without MSG_ZEROCOPY; the rest is not affected.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}, {
	ID: "ulp", Kind: KindCopy,
	Summary: "An upper-layer protocol on the socket ends zero-copy",
	Explanation: "Setting TCP_ULP clears SOCK_SUPPORT_ZC in __tcp_set_ulp, even when the protocol's own set-up " +
		"then fails (\"tls\" on an unconnected socket: ENOTCONN). From then on io_uring SEND_ZC is " +
		"refused on this socket for good, and kTLS sockets refuse MSG_ZEROCOPY.",
	Shows: "SEND_ZC completes with EOPNOTSUPP; on a kTLS socket MSG_ZEROCOPY fails with EOPNOTSUPP.",
	Remedy: "Never test TCP_ULP on a socket that will be used; test on a throw-away one. Over kTLS use " +
		"sendfile.",
	Kernels: "verified 6.1 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}, {
	ID: "sockmap", Kind: KindCopy,
	Summary: "A BPF sockmap program makes the socket copy",
	Explanation: "tcp_bpf_sendmsg copies user data into sk_msg pages (sk_msg_memcopy_from_iter) for the program to " +
		"look at. MSG_ZEROCOPY is accepted and dropped; adding the socket also clears SOCK_SUPPORT_ZC " +
		"(sock_replace_proto).",
	Shows: "Sends succeed and no completion ever comes; SEND_ZC completes with EOPNOTSUPP.",
	Remedy: "Detach the message program, or keep bulk senders out of the map: `bpftool map show` lists " +
		"sockmaps and sockhashes.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend},
}, {
	ID: "mptcp", Kind: KindCopy,
	Summary: "Multipath TCP sockets have no zero-copy send",
	Explanation: "mptcp_sendmsg masks MSG_ZEROCOPY (5.10 refuses it with EOPNOTSUPP) and always copies. Since Go " +
		"1.24 listeners of package net ask for MPTCP; a client that does not speak it still gets a plain " +
		"TCP socket.",
	Shows: "setsockopt SO_ZEROCOPY fails with EOPNOTSUPP; no completion ever comes. `ss -M` lists MPTCP " +
		"sockets.",
	Remedy:  "Open the socket with IPPROTO_TCP; for a Go program start it with `GODEBUG=multipathtcp=0`.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}, {
	ID: "non-zc-proto", Kind: KindCopy,
	Summary: "The protocol of this socket has no zero-copy send",
	Explanation: "Only TCP, UDP, vsock and RDS implement MSG_ZEROCOPY. sendmsg of unix, raw, ping, packet, " +
		"netlink, SCTP, SMC and UDP-Lite sockets ignores the flag and copies; io_uring SEND_ZC needs " +
		"SOCK_SUPPORT_ZC, which TCP, UDP and vsock set.",
	Shows: "setsockopt SO_ZEROCOPY fails with EOPNOTSUPP (524, ENOTSUPP, on 5.10); SEND_ZC completes with " +
		"EOPNOTSUPP; the flag itself is mostly ignored, and no completion comes.",
	Remedy: "Unix stream sockets take page references by sendfile, splice and vmsplice; elsewhere use an " +
		"ordinary send.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true,
}, {
	ID: "ktls-hw-copy", Kind: KindCopy,
	Summary: "kTLS in the NIC still copies plaintext into records",
	Explanation: "tls_push_data copies payload into record pages (tls_device_copy_data) for every send, and for " +
		"sendfile unless TLS_TX_ZEROCOPY_RO was set on the socket. With that option sendfile hands " +
		"page-cache pages to the NIC, which encrypts them on the way out.",
	Shows: "TLS_INFO_ZC_RO_TX is missing from the socket's inet_diag TLS information (`ss -ti` prints " +
		"zc_ro_tx when it is there). The option is accepted in software mode too, where it does nothing.",
	Remedy: "setsockopt(SOL_TLS, TLS_TX_ZEROCOPY_RO, 1) and sendfile, for files that do not change while they " +
		"are sent.",
	Kernels: "read 5.10 to 7.3 (the option from 6.1)", Mechanisms: []Mechanism{AtCrypto},
}, {
	ID: "ktls-hw-fallback", Kind: KindCopy,
	Summary: "kTLS left its device: the CPU copies and encrypts",
	Explanation: "When packets leave by a device other than the one that holds the keys (route change, tc " +
		"redirect, bond failover), tls_validate_xmit_skb calls tls_sw_fallback, which copies and encrypts " +
		"each packet. It happens without a word to the application.",
	Shows:   "TlsCurrTxDevice in /proc/net/tls_stat still counts the socket while the CPU encrypts.",
	Remedy:  "Pin the route to the offload device, or reconnect after a failover.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtCrypto},
}, {
	ID: "vsock-partial", Kind: KindCopy,
	Summary: "A vsock message too large for its ring is copied",
	Explanation: "virtio_transport_can_zcopy accepts a message only if it fits the peer's credit and its pages fit " +
		"the transmit virtqueue, and if it starts at the beginning of its first buffer. Any other message " +
		"is copied at send.",
	Shows: "The completion says COPIED.",
	Remedy: "Send messages smaller than the peer's receive buffer and of fewer pages than the transmit ring " +
		"has entries.",
	Kernels: "read 6.12 and 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true,
}}

// copySource are copies made while reading the source.
var copySource = []Cause{{
	ID: "copy-splice-read", Kind: KindCopy,
	Summary: "The source has no page cache: splice reads copy",
	Explanation: "Sources without page-cache pages are read into fresh pages: copy_splice_read from 6.12 on, " +
		"read_iter into pipe pages before. These are procfs, sysfs, character devices, DAX files, CIFS " +
		"mounts in direct mode, and CephFS files without cache capabilities.",
	Shows: "Nothing: sendfile just works. Some procfs files and hugetlbfs fail with EINVAL instead.",
	Remedy: "Serve from a file system with a page cache, or from a memfd filled once. `zcprobe probe --dir " +
		"DIR` tests the directory that is served.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Predicted: true, Observed: true,
}, {
	ID: "odirect-source", Kind: KindCopy,
	Summary: "The source is open O_DIRECT: pages are read afresh",
	Explanation: "copy_splice_read allocates pages and reads into them with O_DIRECT. On disk file systems that is " +
		"device DMA and no CPU copy, but every call reads the disk again; on tmpfs it is a memcpy.",
	Shows:   "No error; disk reads for data that was just read, and possibly EINVAL for unaligned offsets.",
	Remedy:  "Open the file without O_DIRECT for sendfile and splice.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Observed: true,
}, {
	ID: "fuse-direct-io", Kind: KindCopy,
	Summary: "A FUSE file in direct-io mode is copied",
	Explanation: "To 6.1 splice reads of a file opened with FOPEN_DIRECT_IO ask the daemon each time, which " +
		"copies. From 6.12 on fuse_splice_read does not look at the flag and uses the page cache: no " +
		"copy, but see stale-source.",
	Shows:   "Daemon requests for every read; no counter.",
	Remedy:  "Mount without direct_io, or read and write these files instead of sendfile.",
	Kernels: "read 5.10 and 6.1", Mechanisms: []Mechanism{AtSpliceRead},
}, {
	ID: "socket-linear-splice", Kind: KindCopy,
	Summary: "Splice from a socket copies what is not in pages",
	Explanation: "__skb_splice_bits copies received payload that sits in the packet head (linear_to_page) when the " +
		"head is kmalloc memory or cloned: small packets, receive copybreak, drivers without page " +
		"fragments. Sockets without splice_read (UDP, raw, unix datagram) are copied whole.",
	Shows: "Nothing; the receiving NIC's buffer layout decides.",
	Remedy: "Use a NIC with header split or page buffers; where copybreak can be set, `ethtool --set-tunable " +
		"DEV rx-copybreak 0`.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead},
}, {
	ID: "udp-splice-copy", Kind: KindCopy,
	Summary: "sendfile and splice into UDP copy",
	Explanation: "udp_sendpage of 6.1 hands pages to udp_sendmsg, whose __ip_append_data has no branch for them " +
		"and copies. From 6.12 on only a device without scatter-gather makes it copy.",
	Shows:   "Nothing: the datagram arrives.",
	Remedy:  "Map the file and use MSG_ZEROCOPY, or a kernel of 6.12 or newer.",
	Kernels: "verified 6.1; not on 5.10, 6.12 to 7.3", Mechanisms: []Mechanism{AtSend}, Predicted: true, Observed: true,
}, {
	ID: "sendfile-to-pipe", Kind: KindCopy,
	Summary: "sendfile into a pipe copies on old kernels",
	Explanation: "do_sendfile of 5.10 treats a pipe as a file and writes into it with iter_file_splice_write. From " +
		"6.1 on splice_file_to_pipe passes page references.",
	Shows:   "Nothing; sendfile returns the full count.",
	Remedy:  "Use splice(2) from file to pipe, which passes pages on every kernel.",
	Kernels: "verified 5.10; not on 6.1 to 7.3", Mechanisms: []Mechanism{AtSend}, Predicted: true,
}}
