package probe

// causesRefused are calls that the kernel refuses.
var causesRefused = []Cause{{
	ID: "memlock-limit", Kind: KindRefused,
	Summary: "Sends fail: too much memory is locked",
	Explanation: "Each MSG_ZEROCOPY send charges its pages plus two to the user's locked memory " +
		"(mm_account_pinned_pages), shared per user id with io_uring, AF_XDP and perf. Above " +
		"RLIMIT_MEMLOCK the send is refused unless the process has CAP_IPC_LOCK in the initial user " +
		"namespace. A send larger than the limit fails for ever, even with nothing in flight.",
	Shows: "send fails with ENOBUFS; io_uring completes with ENOMEM or refuses to set up or register " +
		"buffers. Works as root, fails as the service.",
	Remedy: "Raise it where the service starts: `LimitMEMLOCK=infinity` in its systemd unit, `--ulimit " +
		"memlock=-1` for a container, or for a running process `prlimit --pid PID --memlock=SOFT:HARD`. " +
		"io_uring registered buffers are charged once.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "optmem-limit", Kind: KindRefused,
	Summary: "Sends fail: too many completions are outstanding",
	Explanation: "Each unfinished or unread notification takes about 0.8 KiB of option memory (sock_omalloc), " +
		"capped by net.core.optmem_max: 20480 bytes by default in 5.10 and 6.1, 131072 from 6.12 on. On " +
		"6.18 the value can be read and set per network namespace.",
	Shows: "send fails with ENOBUFS (ENOMEM on vsock); `ss -tm` shows the memory in field o.",
	Remedy: "Read the error queue more often, or `sysctl -w net.core.optmem_max=1048576`; an ENOBUFS with " +
		"completions outstanding means: read them and send again, with a bound, or send this one without " +
		"MSG_ZEROCOPY.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "gup-efault", Kind: KindRefused,
	Summary: "Sends fail: the memory cannot be pinned",
	Explanation: "MSG_ZEROCOPY pins user pages (__zerocopy_sg_from_iter). Memory that cannot be pinned, as " +
		"memfd_secret, device mappings (VM_PFNMAP, VM_IO) and pages beyond the end of a mapped file, is " +
		"refused; there is no fallback copy.",
	Shows:   "send fails with EFAULT where an ordinary send may succeed.",
	Remedy:  "Send from ordinary memory, or send this buffer without MSG_ZEROCOPY.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}, {
	ID: "udp-sendfile-emsgsize", Kind: KindRefused,
	Summary: "sendfile of more than a datagram is refused",
	Explanation: "sendfile holds MSG_MORE until its last round, so everything must fit one datagram of 65507 " +
		"bytes. 6.12 and later refuse the rest; splice leaves its data in the pipe. Older kernels lose " +
		"it: see udp-sendfile-loss.",
	Shows:   "sendfile fails with EMSGSIZE.",
	Remedy:  "sendfile at most 65507 bytes, and for few fragments at most the MTU, per call.",
	Kernels: "verified 6.12, 6.18 and 7.3", Mechanisms: []Mechanism{AtSend},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "page-not-sendable", Kind: KindRefused,
	Summary: "The kernel refuses to splice this kind of page",
	Explanation: "Slab pages and pages without a reference count must not go into packets (sendpage_ok). " +
		"skb_splice_from_iter refuses them from 6.12 on; before, kernel_sendpage warned in the log and " +
		"sent them.",
	Shows: "splice or sendfile fails with EIO, and the kernel log has a warning.",
	Remedy: "Report it to the author of the kernel module that supplies the pages; use read and write until " +
		"then.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}, {
	ID: "fast-path-refused", Kind: KindRefused,
	Summary: "A call was refused, so the program copies itself",
	Explanation: "The kernel refuses pairs of descriptors that it cannot connect: a pipe or socket as sendfile " +
		"source, procfs files without read_iter, hugetlbfs, an O_APPEND target, copy_file_range across " +
		"file systems. Many programs and libraries then fall back to read and write in silence.",
	Shows: "EINVAL, EXDEV or ESPIPE from sendfile, splice or copy_file_range, followed by a read/write loop.",
	Remedy: "Use the call that fits: splice for pipes and sockets, MSG_ZEROCOPY from a mapping for hugetlbfs, " +
		"a target opened without O_APPEND.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true, Observed: true,
}}
