package probe

// causesNote copy nothing by themselves; they are advice.
var causesNote = []Cause{{
	ID: "gso-software", Kind: KindNote,
	Summary: "Segments are made in software: more CPU, no copy",
	Explanation: "Without TSO or USO, or above the device's gso_max_size and gso_max_segs, __skb_gso_segment cuts " +
		"large packets before the driver. With scatter-gather and checksum offload it only takes page " +
		"references.",
	Shows:   "`ethtool -k DEV` shows tx-tcp-segmentation or tx-udp-segmentation off.",
	Remedy:  "`ethtool -K DEV tso on`, for UDP `ethtool -K DEV tx-udp-segmentation on`",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtSegment}, Predicted: true,
}, {
	ID: "qdisc-segment", Kind: KindNote,
	Summary: "The qdisc cuts large packets: more CPU, no copy",
	Explanation: "tbf, cake with split-gso and taprio call skb_gso_segment with scatter-gather kept, so pages are " +
		"only referenced. netem with corrupt also linearizes and sums, which is a copy.",
	Shows: "`tc -s qdisc show dev DEV` names the discipline.",
	Remedy: "`tc qdisc replace dev DEV root cake no-split-gso`, a tbf burst of at least 64 KiB, or fq for " +
		"pacing.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSegment},
}, {
	ID: "small-send", Kind: KindNote,
	Summary: "Sends this small are cheaper copied",
	Explanation: "Pinning pages, making and reading a completion costs about as much as copying 4 to 32 KiB, " +
		"depending on whether the buffer is in the CPU's cache. The kernel has no threshold of its own.",
	Shows:   "More CPU per byte with MSG_ZEROCOPY than with write.",
	Remedy:  "Use MSG_ZEROCOPY from 16 KiB up, or measure the crossover here: `zcprobe bench`",
	Kernels: "verified 6.18", Mechanisms: []Mechanism{AtSend}, Observed: true,
}, {
	ID: "pipe-slots", Kind: KindNote,
	Summary: "Pipes are small: splice and sendfile take many rounds",
	Explanation: "sendfile works through an internal pipe of 16 pages. A user above fs.pipe-user-pages-soft " +
		"without CAP_SYS_RESOURCE gets pipes of 2 pages (alloc_pipe_info), sendfile's included, and " +
		"nothing tells the program. More rounds, not more copies.",
	Shows: "splice moves 8 KiB per call; F_SETPIPE_SZ fails with EPERM.",
	Remedy: "`sysctl -w fs.pipe-user-pages-soft=0` lifts the limit; for splice set F_SETPIPE_SZ to 1 MiB and " +
		"close idle pipes.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Predicted: true, Observed: true,
}, {
	ID: "cold-file", Kind: KindNote,
	Summary: "The file is not cached: the disk sets the pace",
	Explanation: "sendfile and splice wait for missing pages to be read in. It is no copy, but a blocking call and " +
		"a cold cache hide what zero-copy gains.",
	Shows:   "`zcprobe probe --dir DIR` says how much is cached; sendfile blocks on reads.",
	Remedy:  "Read ahead with posix_fadvise(POSIX_FADV_WILLNEED), or warm the cache: `cat FILE > /dev/null`",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Predicted: true,
}, {
	ID: "headers-cow", Kind: KindNote,
	Summary: "Packet headers are copied, payload is not",
	Explanation: "NAT, VLAN insertion and tunnels make the packet head writable with skb_cow_head or " +
		"pskb_expand_head: some hundred bytes per packet. The page references of the payload stay.",
	Shows:   "Nothing.",
	Remedy:  "Nothing to do.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDriver},
}, {
	ID: "tap-capture", Kind: KindNote,
	Summary: "A capture copies for itself, in the sender's time",
	Explanation: "tpacket_rcv and packet_rcv copy up to the capture's snapshot length of every packet that its " +
		"filter accepts, in the softirq that sends. It slows sendfile as well, which otherwise only " +
		"shares its pages with the capture's clone.",
	Shows:   "`ss -0 -p` lists the capture sockets; tpacket_rcv shows in CPU profiles.",
	Remedy:  "Capture with a small snapshot length and a narrow filter (`tcpdump -s 96 FILTER`), or stop it.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtClone}, Observed: true,
}, {
	ID: "undrained-completions", Kind: KindNote,
	Summary: "The program does not read its completions",
	Explanation: "Unread notifications of MSG_ZEROCOPY sit in the socket's error queue and option memory; adjacent " +
		"ones merge, others add up until optmem-limit refuses sends. Buffers that wait for them are never " +
		"released.",
	Shows: "`ss -tm` shows a field o above 0 on an idle socket; poll reports POLLERR.",
	Remedy: "Read the error queue (recvmsg with MSG_ERRQUEUE) until EAGAIN whenever poll reports POLLERR, and " +
		"before closing.",
	Kernels: "verified 6.18", Mechanisms: []Mechanism{AtSend}, Observed: true,
}, {
	ID: "cork-missing", Kind: KindNote,
	Summary: "A small header before sendfile waits for an ACK",
	Explanation: "A header sent by itself and then a sendfile make two writes in a row. Nagle's algorithm holds " +
		"the second until the first is acknowledged, about 40 ms with delayed acknowledgements.",
	Shows:   "Responses take 40 ms and more on a kept-alive connection.",
	Remedy:  "Send the header with MSG_MORE, or set TCP_CORK around both, or TCP_NODELAY.",
	Kernels: "verified 6.18", Mechanisms: []Mechanism{AtSend}, Observed: true,
}, {
	ID: "small-splice", Kind: KindNote,
	Summary: "splice moves too little per call to pay",
	Explanation: "A pipe holds 16 pages unless it was enlarged, and a proxy that splices what just arrived moves a " +
		"few packets per call. Below some ten KiB per call a read/write loop is cheaper.",
	Shows: "Many splice calls that return 8 KiB or less.",
	Remedy: "Enlarge the pipe with F_SETPIPE_SZ to 1 MiB, and wait for more data (SO_RCVLOWAT) before " +
		"splicing.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSpliceRead}, Observed: true,
}, {
	ID: "copy-loop", Kind: KindNote,
	Summary: "The program moves data by a read/write loop",
	Explanation: "Two copies and two calls per buffer where sendfile or splice would do. In Go the cause is often " +
		"a wrapper around the connection or file: io.Copy uses sendfile and splice only between unwrapped " +
		"*net.TCPConn and *os.File values, and http.ServeFileFS never does.",
	Shows: "Pairs of read and write of equal size on a file and a socket.",
	Remedy: "Give io.Copy the connection itself, implement ReadFrom in wrappers, send a Content-Length, or " +
		"call sendfile.",
	Kernels: "verified 6.18 with Go 1.26", Mechanisms: []Mechanism{AtSend}, Observed: true,
}, {
	ID: "napi-tx-off", Kind: KindNote,
	Summary: "virtio_net frees sent packets only on the next send",
	Explanation: "With the module parameter napi_tx=0 virtio_net has no transmit interrupt: start_xmit frees old " +
		"packets when new ones come. Completions of the last sends wait until something else is sent; 7.3 " +
		"copies packets that cannot be orphaned.",
	Shows: "`cat /sys/module/virtio_net/parameters/napi_tx` prints N; completions stall when the sender " +
		"pauses.",
	Remedy: "Remove napi_tx=0 from the module options in /etc/modprobe.d or from the kernel command line, and " +
		"load the module again.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDriver},
}}
