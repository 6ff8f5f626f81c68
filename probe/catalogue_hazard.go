package probe

// causesHazard send wrong data, or lose it, where a copy would have been right.
var causesHazard = []Cause{{
	ID: "early-completion", Kind: KindHazard,
	Summary: "With TCP MTU probing completions come too early",
	Explanation: "A path-MTU probe takes over page references without the completion record (tcp_clone_payload), " +
		"and freeing the packets it was made from completes them (tcp_eat_one_skb) while the probe still " +
		"points at the user's pages. A buffer reused on completion, as documented, changes what is sent " +
		"or retransmitted. 5.10 and 6.1 complete early too, but have copied the data. io_uring SEND_ZC " +
		"shares the code.",
	Shows: "Wrong bytes at the receiver with valid checksums. Messages complete while tcpi_bytes_acked is " +
		"still below their end.",
	Remedy: "`sysctl -w net.ipv4.tcp_mtu_probing=0` in the sender's network namespace, or reuse a buffer only " +
		"when it is completed and tcpi_bytes_acked covers it.",
	Kernels: "verified: wrong data on 6.12, 6.18 and 7.3; early but harmless on 5.10 and 6.1", Mechanisms: []Mechanism{AtSegment},
	Predicted: true, Observed: true,
}, {
	ID: "udp-splice-csum-loss", Kind: KindHazard,
	Summary: "UDP spliced from odd-sized parts is dropped",
	Explanation: "skb_splice_csum_page adds page checksums at an offset that does not advance inside the loop. Any " +
		"odd-sized part that is not the last spoils the sum, and the receiver drops the datagram. It " +
		"takes a software checksum: above the MTU, corked, or no offload. sendfile from an odd file " +
		"offset is enough.",
	Shows: "The send succeeds and nothing arrives; UdpInCsumErrors grows at the receiver (`nstat -az " +
		"UdpInCsumErrors`).",
	Remedy:  "Splice even offsets and lengths only, or send UDP with write or MSG_ZEROCOPY.",
	Kernels: "verified 6.12 and 6.18; not on 5.10, 6.1 and 7.3", Mechanisms: []Mechanism{AtSend}, Predicted: true,
}, {
	ID: "udp-sendfile-loss", Kind: KindHazard,
	Summary: "sendfile into UDP reports success and sends nothing",
	Explanation: "sendfile holds MSG_MORE until its last round, so all pages go into one datagram. On 5.10 and 6.1 " +
		"the page that overflows it makes udp_sendpage drop everything corked before, and the call " +
		"returns the bytes it had taken. Later kernels fail with EMSGSIZE.",
	Shows:   "sendfile of 65536 bytes returns 61440 and the receiver gets nothing.",
	Remedy:  "Never sendfile more than 65507 bytes into a UDP socket in one call.",
	Kernels: "verified 5.10 and 6.1; EMSGSIZE on 6.12 to 7.3", Mechanisms: []Mechanism{AtSend}, Predicted: true,
}, {
	ID: "live-source", Kind: KindHazard,
	Summary: "A file that changes while it is sent goes out mixed",
	Explanation: "sendfile, splice and MSG_ZEROCOPY from a mapping send the page-cache pages themselves, and TCP " +
		"keeps them until they are acknowledged. Writing to the file in that time changes what is sent; a " +
		"retransmission may differ from the first transmission. Checksums are computed late and stay " +
		"valid.",
	Shows: "Nothing at the sender. Over kTLS offload the peer rejects the record.",
	Remedy: "Publish files by rename and never write in place; or seal a memfd (F_SEAL_WRITE, F_SEAL_SHRINK, " +
		"F_SEAL_GROW) before sending, or `chattr +i FILE`. Wait for SIOCOUTQ to reach 0 before changing a " +
		"file.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Predicted: true,
}, {
	ID: "stale-source", Kind: KindHazard,
	Summary: "FUSE or shared folders: old contents may be sent",
	Explanation: "From 6.12 on fuse_splice_read does not honour FOPEN_DIRECT_IO and splices from the page cache, " +
		"which nobody keeps up to date in that mode. Shared folders of virtual machines and some network " +
		"file systems have the same fault: the other side changes the file, the cached pages stay.",
	Shows: "read returns new contents while sendfile sends the old.",
	Remedy: "Serve such directories with read and write (sendfile off), or mount them with a coherent cache " +
		"mode.",
	Kernels: "read 6.12 and 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Predicted: true,
}, {
	ID: "truncated-tail", Kind: KindHazard,
	Summary: "A mapped file cut short goes out padded with zeros",
	Explanation: "Truncation zeroes the rest of the last page in place. MSG_ZEROCOPY from a mapping then sends " +
		"those zeros with success; pages wholly past the new end fail with EFAULT. sendfile checks the " +
		"size each round and returns short.",
	Shows: "More bytes sent than the file now holds, the last ones zero.",
	Remedy: "Send files that may shrink with sendfile and check its count; replace files by rename instead of " +
		"truncating them.",
	Kernels: "verified 6.18", Mechanisms: []Mechanism{AtSend}, Predicted: true,
}}
