package probe

// causesPass read the payload without writing it elsewhere.
var causesPass = []Cause{{
	ID: "checksum-pass", Kind: KindPass,
	Summary: "The CPU reads the payload for its checksum",
	Explanation: "Where the device cannot checksum, skb_checksum_help or skb_segment sums plain write data in " +
		"place. Data of zero-copy sends and sendfile is copied first instead: see no-tx-csum.",
	Shows:   "`ethtool -k DEV` shows the tx-checksum bits off; csum_partial shows in CPU profiles.",
	Remedy:  "`ethtool -K DEV tx on`",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtSegment, AtLinearize, AtSend, AtFragment, AtCrypto},
	Predicted: true, Observed: true,
}, {
	ID: "udp-splice-csum", Kind: KindPass,
	Summary: "sendfile and splice into UDP sum pages in software",
	Explanation: "A spliced datagram without a device checksum is summed page by page while it is built: csum_page " +
		"in 5.10 and 6.1, skb_splice_csum_page from 6.12 on. 5.10 does it for every sendfile, because " +
		"udp_sendpage opens the datagram with MSG_MORE; 6.12 and later only above the MTU, when corked, " +
		"or without checksum offload.",
	Shows:   "Nothing; the datagram arrives. With odd-sized parts see udp-splice-csum-loss.",
	Remedy:  "Keep spliced datagrams within the MTU and uncorked.",
	Kernels: "verified 5.10; read 6.1 to 7.3", Mechanisms: []Mechanism{AtSend}, Predicted: true, Observed: true,
}, {
	ID: "tcp-md5-ao", Kind: KindPass,
	Summary: "TCP-MD5 and TCP-AO hash the payload of every packet",
	Explanation: "The signature covers the payload, so the CPU reads it for each packet, retransmissions included, " +
		"and GSO is off for the socket. On a device without scatter-gather such a socket is also copied " +
		"at send.",
	Shows:   "`ss -tin` shows md5keys for such sockets when run as root.",
	Remedy:  "None while the peer asks for signatures; use them only on the connections that need them.",
	Kernels: "read 5.10 to 7.3 (AO from 6.12)", Mechanisms: []Mechanism{AtSend},
}}
