package probe

// copyObserver are copies made because someone else looks at the packets.
var copyObserver = []Cause{{
	ID: "packet-tap", Kind: KindCopy,
	Summary: "A packet capture makes every zero-copy send copy",
	Explanation: "A packet socket for all protocols (ETH_P_ALL), on the device or on any, gets a clone of each " +
		"packet in dev_queue_xmit_nit, or on receive in __netif_receive_skb_core. The clone of a " +
		"MSG_ZEROCOPY or SEND_ZC packet is copied first (skb_copy_ubufs), even if the socket's filter " +
		"rejects everything. The packet itself still leaves from the user's pages. To 6.12 a tap on any " +
		"device of any network namespace counts.",
	Shows: "Every completion says COPIED. /proc/net/ptype has rows of type ALL and /proc/net/packet has " +
		"protocol 0003 (own namespace only); `zcprobe probe` names the program. sendfile is cloned " +
		"without a copy (see tap-capture).",
	Remedy: "Stop the capture (tcpdump, lldpd, dhclient, an IDS), bind it to another device or to the " +
		"protocol it needs, or let it set PACKET_IGNORE_OUTGOING.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtClone, AtIngress},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "tx-timestamp", Kind: KindCopy,
	Summary: "Transmit timestamps that return the packet copy it",
	Explanation: "With SOF_TIMESTAMPING_TX_* and without OPT_TSONLY, __skb_tstamp_tx clones the packet for the " +
		"error queue. The clone of a zero-copy packet is copied (skb_copy_ubufs), once per kind of " +
		"timestamp.",
	Shows: "Completions say COPIED, and the error queue returns the payload with each timestamp.",
	Remedy: "Add SOF_TIMESTAMPING_OPT_TSONLY to the SO_TIMESTAMPING flags. For unprivileged programs `sysctl " +
		"-w net.core.tstamp_allow_data=0` forbids the other kind, and their timestamps with payload " +
		"cease.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtClone}, Reported: true, Observed: true,
}, {
	ID: "tun-tap", Kind: KindCopy,
	Summary: "tun and tap copy packets for the program behind them",
	Explanation: "tun_net_xmit makes zero-copy packets private (skb_copy_ubufs); the virtual machine monitor or " +
		"VPN program then reads each packet by tun_put_user, a second copy that plain packets pay as " +
		"well. macvtap is read the same way.",
	Shows: "Completions say COPIED; `ip -d link show DEV` says tun.",
	Remedy: "Give virtual machines SR-IOV, vDPA or vhost-user instead of tap. On a VPN path send with write: " +
		"zero-copy cannot win there.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDriver},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "packet-ring-clone", Kind: KindCopy,
	Summary: "Cloned PACKET_TX_RING or vhost packets are copied",
	Explanation: "skb_clone calls skb_orphan_frags, which copies packets without the DONT_ORPHAN flag: those of " +
		"PACKET_TX_RING and of vhost zero-copy. Any clone does it: a tap, tc mirred, bridge flooding, a " +
		"timestamp; in 7.3 also virtio_net without transmit NAPI.",
	Shows:   "Nothing: the ring has no completion code.",
	Remedy:  "Remove what clones: taps, `tc filter del dev DEV` for mirror rules, flooding ports.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtClone}, Observed: true,
}}

// copyLocal are copies of packets that stay on this machine.
var copyLocal = []Cause{{
	ID: "loopback-delivery", Kind: KindCopy, Expected: true,
	Summary: "The receiver is on this machine: copied on delivery",
	Explanation: "A packet with user pages that enters an IP stack of this machine (through lo, to an own address, " +
		"over veth, macvlan or a bridge) is copied before a socket may queue it: skb_orphan_frags_rx " +
		"calls skb_copy_ubufs, in __netif_receive_skb_core to 6.12, in ip_local_deliver_finish and " +
		"ip6_input_finish from 6.18 on. sendfile and splice pages are not copied; vsock loopback is " +
		"exempt.",
	Shows: "Every MSG_ZEROCOPY and SEND_ZC completion says COPIED.",
	Remedy: "Nothing is wrong. Between local processes use sendfile, splice, a unix socket or shared memory, " +
		"and never benchmark zero-copy on loopback.",
	Kernels: "verified 5.10 to 7.3", Mechanisms: []Mechanism{AtIngress},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "veth-routed-ingress", Kind: KindCopy,
	Summary: "The host copies what it routes for a container",
	Explanation: "To 6.12 __netif_receive_skb_core copies (skb_copy_ubufs) any zero-copy packet that it hands to " +
		"an IP handler, even if the packet is then forwarded to a NIC. Bridges, macvlan and tc BPF " +
		"redirects run earlier and keep the pages.",
	Shows: "Completions say COPIED; `ip -d link show DEV` says veth, and the peer's namespace forwards.",
	Remedy: "Attach the container by bridge, macvlan, ipvlan or netkit, or forward with bpf_redirect_neigh; " +
		"or use a kernel of 6.18 or newer.",
	Kernels: "verified 5.10, 6.1 and 6.12; not on 6.18 and 7.3", Mechanisms: []Mechanism{AtIngress},
	Predicted: true, Reported: true, Observed: true,
}}

// copyProcessing are copies made by packet processing on the way out.
var copyProcessing = []Cause{{
	ID: "nfqueue", Kind: KindCopy,
	Summary: "A netfilter queue copies every packet it takes",
	Explanation: "Without NFQA_CFG_F_GSO nfqnl_enqueue_packet segments with no features at all (skb_gso_segment " +
		"with 0), which copies and sums the payload. The program then reads each packet by a further " +
		"copy.",
	Shows: "/proc/net/netfilter/nfnetlink_queue lists the queues; completions of large packets do not say " +
		"COPIED.",
	Remedy: "Let the program set NFQA_CFG_F_GSO, or keep bulk flows out of the queue: accept established " +
		"connections before the queue rule (`nft list ruleset` shows it).",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSegment}, Observed: true,
}, {
	ID: "nat-helper", Kind: KindCopy,
	Summary: "A conntrack helper rewrites payload (FTP, SIP, IRC)",
	Explanation: "__nf_nat_mangle_tcp_packet, nf_nat_mangle_udp_packet and the FTP and SIP helpers make the whole " +
		"packet writable (skb_ensure_writable, skb_linearize). Only flows that a helper was assigned to " +
		"are concerned.",
	Shows:   "`conntrack -L` prints helper= for the flow.",
	Remedy:  "Assign helpers only to control connections, or unload the helper that is not needed.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize}, Observed: true,
}, {
	ID: "checksum-fill", Kind: KindCopy,
	Summary: "A CHECKSUM rule or tc csum linearizes the payload",
	Explanation: "xt_CHECKSUM calls skb_checksum_help, and tc's csum action pulls and sums the payload. Shared " +
		"pages are linearized first.",
	Shows: "`iptables-save -t mangle` shows -j CHECKSUM; `tc -s filter show dev DEV egress` shows csum.",
	Remedy: "Remove the rule: it was made for DHCP clients of old virtual machines. Restrict it to UDP port " +
		"68 if one needs it.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize}, Observed: true,
}, {
	ID: "tcpmss", Kind: KindCopy,
	Summary: "A TCPMSS rule not limited to SYN copies packets",
	Explanation: "xt_TCPMSS calls skb_ensure_writable for the whole packet (tcpmss_mangle_packet). Rules limited " +
		"to SYN touch no payload.",
	Shows: "`iptables-save -t mangle` shows -j TCPMSS without --tcp-flags SYN.",
	Remedy: "Limit the rule: `iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS " +
		"--clamp-mss-to-pmtu`.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize}, Observed: true,
}, {
	ID: "tc-pull", Kind: KindCopy,
	Summary: "A tc BPF program pulls payload into the packet head",
	Explanation: "bpf_skb_pull_data and helpers that write make that much of the packet linear and private " +
		"(bpf_try_make_writable, __pskb_pull_tail). A program that pulls the packet's whole length copies " +
		"all payload.",
	Shows:   "`tc filter show dev DEV egress` lists the programs; `bpftool net` those of all devices.",
	Remedy:  "Let the program pull only the headers that it reads.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtLinearize}, Observed: true,
}, {
	ID: "ipsec-sw", Kind: KindCopy,
	Summary: "IPsec in software copies and encrypts every packet",
	Explanation: "xfrm_output segments GSO packets with no features (a copy and a checksum), and esp_output_head " +
		"runs skb_cow_data for cloned or large packets or encrypts into fresh pages. The route's extra " +
		"header also takes GSO from the socket (sk_setup_caps).",
	Shows: "`ip -s xfrm state` counts bytes on a state without an offload line; /proc/net/xfrm_stat has the " +
		"errors.",
	Remedy: "Use a NIC with IPsec offload: `ethtool -K DEV esp-hw-offload on`, and add the states with " +
		"`offload dev DEV dir out`. Without one send with write.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtCrypto, AtSegment}, Predicted: true, Observed: true,
}, {
	ID: "wireguard", Kind: KindCopy,
	Summary: "WireGuard copies what it encrypts",
	Explanation: "wg_xmit segments with no features (skb_gso_segment with 0: copy and checksum), and " +
		"encrypt_packet runs skb_cow_data on each packet before it encrypts in place. The packets that " +
		"leave the device below are new ones.",
	Shows: "`ip -d link show DEV` says wireguard; whether completions say COPIED depends on packet sizes.",
	Remedy: "Send with write through the tunnel; where only transport encryption is wanted, kTLS over the " +
		"plain path copies less.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtCrypto, AtSegment}, Predicted: true, Observed: true,
}, {
	ID: "macsec", Kind: KindCopy,
	Summary: "MACsec in software copies what it encrypts",
	Explanation: "macsec_encrypt makes each packet private (skb_copy_expand or skb_unshare, then skb_cow_data) " +
		"before it encrypts in place. With MACsec offload the NIC does it from the pages as they are.",
	Shows:   "`ip -d link show DEV` says macsec with offload off.",
	Remedy:  "Offload it where the NIC can: `ip macsec offload DEV mac`.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtCrypto}, Predicted: true, Observed: true,
}, {
	ID: "ovs-upcall", Kind: KindCopy,
	Summary: "Open vSwitch copies a flow's first packets",
	Explanation: "Packets without a flow entry are segmented (queue_gso_packets) and copied to ovs-vswitchd by " +
		"netlink. Once the flow is installed the kernel forwards pages.",
	Shows: "`ovs-dpctl show` counts missed lookups.",
	Remedy: "Nothing for long flows; if misses keep growing, the flow table is too small or entries time out " +
		"too soon.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSegment}, Observed: true,
}, {
	ID: "xdp-generic", Kind: KindCopy,
	Summary: "Generic XDP on a local receiving device linearizes",
	Explanation: "netif_receive_generic_xdp needs linear, private packets: it linearizes, or from 6.12 on copies " +
		"by skb_cow_data_for_xdp. It concerns packets received on this machine, over lo, veth or tun, and " +
		"so always zero-copy packets.",
	Shows: "`ip link show DEV` says xdpgeneric; completions say COPIED.",
	Remedy: "Remove the program from the local device: `ip link set dev DEV xdpgeneric off`; on NICs attach " +
		"it natively.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtIngress},
	Predicted: true, Reported: true, Observed: true,
}, {
	ID: "veth-xdp", Kind: KindCopy,
	Summary: "Native XDP on a veth peer copies every packet",
	Explanation: "veth_convert_skb_to_xdp_buff copies non-linear packets into page-pool pages (skb_pp_cow_data) " +
		"before the program runs. It also takes TSO from the sending end.",
	Shows: "`ip link show DEV` on the peer says xdp; completions say not copied although everything was.",
	Remedy: "Remove the program from the veth peer, `ip link set dev DEV xdp off` in its namespace, or attach " +
		"it to the physical NIC.",
	Kernels: "verified 6.18; read 5.10 to 7.3", Mechanisms: []Mechanism{AtIngress}, Predicted: true, Observed: true,
}, {
	ID: "af-xdp-copy", Kind: KindCopy,
	Summary: "An AF_XDP socket is in copy mode",
	Explanation: "Without driver support for AF_XDP zero-copy, xsk_build_skb (xsk_generic_xmit in 5.10) copies " +
		"each frame from the UMEM into a packet. Bind falls back to it silently unless XDP_ZEROCOPY was " +
		"asked for.",
	Shows:   "getsockopt XDP_OPTIONS lacks XDP_OPTIONS_ZEROCOPY; bind with XDP_ZEROCOPY fails with EOPNOTSUPP.",
	Remedy:  "Bind with XDP_ZEROCOPY so that it fails instead of copying, on a driver that supports it.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtSend}, Reported: true,
}}

// copyBelow are copies at or below the driver, and by TCP's own machinery.
var copyBelow = []Cause{{
	ID: "driver-linearize", Kind: KindCopy,
	Summary: "The driver linearizes packets with too many fragments",
	Explanation: "Drivers call skb_linearize when a packet needs more descriptors than the hardware takes: i40e, " +
		"iavf, ice and idpf over 8 buffers per segment, ena over its list size, vmxnet3, hv_netvsc, bnxt, " +
		"mana and others at limits of their own. Many small or unaligned buffers in one send reach the " +
		"limits first.",
	Shows: "Completions say COPIED, and `ethtool -S DEV` counts it: linearize (ena), tx_linearize (i40e, " +
		"ice), pkts linearized (vmxnet3), tx_linear_pkt_cnt (mana).",
	Remedy:  "Send from fewer, larger, aligned buffers (huge pages), and avoid lists of tiny buffers.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDriver}, Reported: true, Observed: true,
}, {
	ID: "driver-bounce", Kind: KindCopy,
	Summary: "The driver copies whole frames into memory of its own",
	Explanation: "Some drivers send only from memory registered beforehand: gve in QPL mode, ibmvnic and ibmveth, " +
		"hv_netvsc for small frames, USB NICs that aggregate (r8152, lan78xx), 8139too, xen-netfront with " +
		"an untrusted backend. Others copy below a tx-copybreak.",
	Shows: "Never reported by a completion; `ethtool -i DEV` names the driver.",
	Remedy: "Where it is a threshold, lower it: `ethtool --set-tunable DEV tx-copybreak 0`; run gve in RDA " +
		"mode; use an SR-IOV function.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDriver}, Predicted: true, Observed: true,
}, {
	ID: "swiotlb-bounce", Kind: KindCopy,
	Summary: "DMA goes through bounce buffers: all is copied",
	Explanation: "swiotlb_map copies into the bounce pool when the device cannot reach the memory. That is so in " +
		"confidential guests (SEV, TDX) for all DMA, with swiotlb=force, and when the device's DMA mask " +
		"is smaller than the memory.",
	Shows: "Never reported by a completion. The kernel log mentions memory encryption or software IO TLB, " +
		"and tracepoint swiotlb:swiotlb_bounced fires.",
	Remedy: "Remove swiotlb=force from the kernel command line, or use a device with a 64-bit DMA mask. In a " +
		"confidential guest it is the price.",
	Kernels: "read 5.10 to 7.3", Mechanisms: []Mechanism{AtDMA},
}, {
	ID: "tcp-mtu-probe", Kind: KindCopy,
	Summary: "TCP path-MTU probes are built by a copy",
	Explanation: "With net.ipv4.tcp_mtu_probing set, tcp_mtu_probe assembles each probe packet with skb_copy_bits " +
		"in 5.10 and 6.1. From 6.12 on it takes page references (tcp_clone_payload), which is no copy but " +
		"a hazard: see early-completion.",
	Shows:   "`nstat -az TcpExtTCPMTUPSuccess TcpExtTCPMTUPFail` grow; completions do not tell.",
	Remedy:  "`sysctl -w net.ipv4.tcp_mtu_probing=0`",
	Kernels: "verified 5.10 and 6.1; a hazard on 6.12 to 7.3", Mechanisms: []Mechanism{AtSegment},
}, {
	ID: "tcp-retrans-collapse", Kind: KindCopy,
	Summary: "TCP merges small retransmitted packets by copying",
	Explanation: "tcp_collapse_retrans of 5.10 may copy payload into the tail room of the packet before " +
		"(skb_copy_bits). Later kernels only move page references, and zero-copy packets are never " +
		"merged.",
	Shows:   "`nstat -az TcpRetransSegs` grows; nothing tells the copy.",
	Remedy:  "Cure the packet loss; `sysctl -w net.ipv4.tcp_retrans_collapse=0` ends the merging.",
	Kernels: "read in 5.10; gone in 6.1", Mechanisms: []Mechanism{AtSegment},
}}
