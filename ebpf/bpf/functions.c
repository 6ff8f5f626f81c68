// The tiers of functions: fentry and kprobe, by what is defined. Each send, and
// each copy behind it; nothing here decides.

#include "functions_packet.h"

char gpl[] SEC("license") = "GPL"; // the helpers that read the kernel ask for it

// ---- the send call

INLINE u8 tcp_flags(struct sock *sk, u32 flags, bool pages, bool notice)
{
	u8 f = 0;
	bool gather = READ((struct sock___functions *)sk, sk_route_caps) & NETIF_F_SG;
	bool so = READ(sk, __sk_common.skc_flags) >> bit_so_zerocopy & 1;
	if (READ((struct inet_connection_sock *)sk, icsk_ulp_ops))
		f |= SPAN_ULP;
	if (!gather)
		f |= SPAN_NO_SG;
	if (flags & MSG_ZEROCOPY && !notice && !so)
		f |= SPAN_NO_SO_ZEROCOPY;
	if (pages && gather)
		f |= SPAN_LENT;
	return f;
}

INLINE void note_route(struct sender_state *s, struct sock *sk)
{
	struct dst_entry *dst = READ((struct sock___functions *)sk, sk_dst_cache);
	struct net_device *dev = dst ? READ(dst, dev) : NULL;
	if (!dev)
		return;
	u32 index = READ(dev, ifindex);
	if (index == s->device)
		return;
	s->device = index;
	s->netns = namespace_of(READ(dev, nd_net.net));
	note_link(dev, s->netns, index);
}

LOCAL int tcp_sends(struct sock *sk, struct msghdr *msg)
{
	struct sender_state *s = sender_of(sk);
	if (!s)
		return 0;
	catch_up(s, sk);
	note_route(s, sk);
	struct calling call = {};
	bool known = current_call(&call, (u64)sk, msg), notice = 0;
	u32 flags = msg ? READ(msg, msg_flags) : MSG_SPLICE_PAGES;
	if (msg && FIELD_EXISTS(msg->msg_ubuf))
		notice = READ(msg, msg_ubuf) != NULL;
	begin_span(s, &call, tcp_flags(sk, flags, flags & MSG_SPLICE_PAGES, notice));
	if (known)
		own(s);
	return 0;
}

HOOK(tcp_sendmsg_locked)
{
	return tcp_sends((void *)ARGUMENT(1), (void *)ARGUMENT(2));
}

// Until Linux 6.4 pages are handed over one by one.
HOOK(do_tcp_sendpages)
{
	return tcp_sends((void *)ARGUMENT(1), NULL);
}

INLINE void lend(u64 notice, u64 sock, struct sender_state *s, u8 api)
{
	struct lender l = {.sock = sock, .id = s->owner.id, .api = api};
	map_update(&lenders, &notice, &l, BPF_ANY);
}

// Pages of the application are taken into a packet.
HOOK(skb_zerocopy_iter_stream)
{
	u64 key = ARGUMENT(1);
	struct sender_state *s = map_lookup(&senders, &key);
	if (!s)
		return 0;
	struct span *last = &s->at[s->newest % SPANS];
	last->flags |= SPAN_LENT;
	lend(ARGUMENT(5), key, s, last->api);
	return 0;
}

LOCAL int udp_asks(struct sock *sk, struct msghdr *msg)
{
	u64 thread = get_current_pid_tgid();
	struct calling call = {};
	u32 flags = READ(msg, msg_flags);
	bool notice = 0;
	if (!current_call(&call, (u64)sk, msg))
		return 0;
	if (FIELD_EXISTS(msg->msg_ubuf))
		notice = READ(msg, msg_ubuf) != NULL;
	if (flags & MSG_ZEROCOPY && !notice && !(READ(sk, __sk_common.skc_flags) >> bit_so_zerocopy & 1))
		call.flags |= SPAN_NO_SO_ZEROCOPY;
	if (READ((struct udp_sock *)sk, pending)) {
		struct calling *before = map_lookup(&calls, &thread);
		call.corked = 1;
		call.mixed = !before || before->sock != (u64)sk || before->mixed || before->api != call.api || before->source != call.source;
	}
	if (map_update(&calls, &thread, &call, BPF_ANY))
		MISS(calls);
	return 0;
}

HOOK(udp_sendmsg)
{
	return udp_asks((void *)ARGUMENT(1), (void *)ARGUMENT(2));
}

HOOK(udpv6_sendmsg)
{
	return udp_asks((void *)ARGUMENT(1), (void *)ARGUMENT(2));
}

// payload_classes counts the payload of a datagram by the memory it lies in.
LOCAL int payload_classes(struct fact_key *key, struct skb_shared_info *shared, u32 linear, u32 payload)
{
	u32 left = payload - linear, frags = READ(shared, nr_frags);
	struct {
		u64 page;
		u32 len, offset;
	} frag;
	if (linear) {
		key->class = LIES_LINEAR;
		state_fact(key, linear);
	}
	for (u32 i = 0; i < MAX_FRAGS && i < frags && left; i++) {
		probe_read_kernel(&frag, sizeof(frag), (void *)&shared->frags + i * sizeof(frag));
		if (frag.len > left)
			frag.len = left;
		key->class = class_of(frag.page);
		state_fact(key, frag.len);
		left -= frag.len;
	}
	if (!left)
		return 0;
	// The other fragments of a datagram that IP has cut up when it was made. They
	// lie where the first has its page, or in heads of their own.
	struct sk_buff *more = READ((struct skb_shared_info___functions *)shared, frag_list);
	key->class = LIES_LINEAR;
	if (more) {
		struct skb_shared_info *its = shared_of(more);
		if (READ(its, nr_frags) && READ(more, data_len)) {
			probe_read_kernel(&frag, sizeof(frag), (void *)&its->frags);
			key->class = class_of(frag.page);
		}
	}
	state_fact(key, left);
	return 0;
}

LOCAL int udp_sends(struct sk_buff *skb, u32 v6)
{
	struct sock *sk = READ(skb, sk);
	u64 key = (u64)sk, thread = get_current_pid_tgid(), head = (u64)READ(skb, head);
	struct sender_state *s = sender_of(sk);
	if (!s)
		return 0;
	struct calling *before = map_lookup(&calls, &thread), call = {};
	if (before && before->sock == key)
		call = *before;
	else
		current_call(&call, key, NULL);
	if (call.api)
		own(s);
	struct span *span = &s->at[s->newest % SPANS];
	if (span->api != call.api || span->source != call.source)
		*span = (struct span){.api = call.api, .source = call.source};
	u32 start = READ(skb, transport_header) + 8, skipped = start - (u32)((u64)READ(skb, data) - head);
	u32 len = READ(skb, len), in_head = len - READ(skb, data_len);
	if ((s32)skipped < 0 || skipped >= len)
		return 0;
	struct skb_shared_info *shared = shared_of(skb);
	u8 lent, others;
	read_flags(shared, &lent, &others);
	struct fact_key fact = {.socket = s->owner.id, .kind = FACT_DATAGRAM};
	if (!call.mixed) { // else nothing tells which bytes are whose
		fact.api = call.api;
		fact.evidence = call.source;
	}
	if (call.corked)
		fact.evidence |= SAW_CORKED;
	if (call.flags & SPAN_NO_SO_ZEROCOPY)
		fact.evidence |= SAW_NO_SO_ZEROCOPY;
	if (lent) {
		fact.evidence |= SAW_LENT;
		lend((u64)READ(shared, destructor_arg), key, s, call.api);
	}
	if (READ((struct skb_shared_info___functions *)shared, frag_list))
		fact.evidence |= SAW_FRAGMENT;
	if (READ_BITFIELD(skb, ip_summed) == CHECKSUM_PARTIAL)
		fact.evidence |= SAW_PARTIAL;
	struct dst_entry *dst = (void *)(READ((struct sk_buff___functions *)skb, _skb_refdst) & ~1ul);
	struct net_device *dev = dst ? READ(dst, dev) : NULL;
	if (dev) {
		fact.device = READ(dev, ifindex);
		fact.netns = namespace_of(READ(dev, nd_net.net));
		fact.evidence |= device_evidence(dev, v6);
		s->device = fact.device;
		note_link(dev, fact.netns, fact.device);
	}
	if (only_device && fact.device != only_device)
		return 0;
	return payload_classes(&fact, shared, in_head > skipped ? in_head - skipped : 0, len - skipped);
}

HOOK(udp_send_skb)
{
	return udp_sends((void *)ARGUMENT(1), 0);
}

HOOK(udp_v6_send_skb)
{
	return udp_sends((void *)ARGUMENT(1), 1);
}

// ---- the end of a socket

LOCAL int shut(u64 key)
{
	struct sender_state *s = map_lookup(&senders, &key);
	if (!s || s->owner.protocol != IPPROTO_TCP)
		return 0;
	if (another(s, (void *)key))
		return retire(s, key);
	catch_up(s, (void *)key);
	s->owner.flags |= OWNER_SHUT;
	return 0;
}

HOOK(tcp_shutdown)
{
	return shut(ARGUMENT(1));
}

HOOK(tcp_close)
{
	return shut(ARGUMENT(1));
}

LOCAL int end(u64 key)
{
	struct sender_state *s = map_lookup(&senders, &key);
	if (!s)
		return 0;
	if (s->owner.protocol == IPPROTO_TCP && !another(s, (void *)key)) {
		catch_up(s, (void *)key);
		u32 left = s->sent - READ((struct tcp_sock___functions *)key, snd_una);
		if ((s32)left > 0) {
			struct span span = s->at[s->newest % SPANS];
			struct fact_key fact = {
				.socket = s->owner.id, .kind = FACT_UNSENT, .api = span.api, .evidence = span_evidence(&span)};
			state_fact(&fact, left);
		}
	}
	return retire(s, key);
}

HOOK(tcp_v4_destroy_sock)
{
	return end(ARGUMENT(1));
}

HOOK(udp_destroy_sock)
{
	return end(ARGUMENT(1));
}

HOOK(udpv6_destroy_sock)
{
	return end(ARGUMENT(1));
}

HOOK(wake_up_new_task)
{
	struct task_struct *child = (void *)ARGUMENT(1);
	u32 parent = get_current_pid_tgid() >> 32, tgid = READ(child, tgid);
	if (tgid != parent && only_wanted && map_lookup(&wanted, &parent))
		map_update(&wanted, &tgid, &parent, BPF_ANY);
	return 0;
}

// ---- the copies

// own_pages leaves the packets out that hang on a list of this one.
INLINE void own_pages(struct seen *p, struct sk_buff *skb)
{
	struct skb_shared_info *shared = shared_of(skb);
	u32 frags = READ(shared, nr_frags), sum = p->linear;
	if (!READ((struct skb_shared_info___functions *)shared, frag_list))
		return;
	struct {
		u64 page;
		u32 len, offset;
	} frag;
	for (u32 i = 0; i < MAX_FRAGS && i < frags; i++) {
		probe_read_kernel(&frag, sizeof(frag), (void *)&shared->frags + i * sizeof(frag));
		sum += frag.len;
	}
	if (sum < p->payload)
		p->payload = sum;
}

// callers keeps where the kernel is. At its first instruction a function of arm64 has
// no frame yet, so that the kernel goes on with the caller of its caller: who called it
// is in the link register, x30.
INLINE void callers(void *ctx, u64 *frames)
{
#if defined(KPROBE) && defined(__TARGET_ARCH_arm64)
	get_stack(ctx, frames + 1, (FRAMES - 1) * sizeof(*frames), 0);
	frames[0] = frames[1];
	frames[1] = ((struct registers *)ctx)->x[30];
#else
	get_stack(ctx, frames, FRAMES * sizeof(*frames), 0);
#endif
}

// copied counts a copy of what a packet holds.
LOCAL int copied(void *ctx, struct sk_buff *skb, u32 kind, u32 group, u32 evidence)
{
	struct seen p;
	struct fact_key key = {.kind = kind, .evidence = evidence};
	struct sender_state *s = owner_of(skb, (u8 *)&key.api);
	bool passes = passes_on(skb);
	if (!s && (passes || kind == FACT_XDP || kind == FACT_HEADER)) // it has come in, and lost its socket
		s = owner_by_tuple(skb);
	if (!s) {
		if (!passes || kind == FACT_PASS || !(key.socket = strange(skb)))
			return 0;
	}
	if (!read_seen(&p, skb))
		return 0;
	if (kind == FACT_TAPPED || kind == FACT_PRIVATE)
		own_pages(&p, skb);
	callers(ctx, key.frames);
	return count_copy(&key, &p, s, group);
}

HOOK(skb_segment)
{
	struct sk_buff *skb = (void *)ARGUMENT(1);
	u64 features = ARGUMENT(2);
	struct seen p;
	struct fact_key key = {};
	struct sender_state *s;
	if (features & NETIF_F_SG && features & NETIF_F_HW_CSUM)
		return 0; // it cuts, and copies nothing
	s = owner_of(skb, (u8 *)&key.api);
	if (!s)
		s = owner_by_tuple(skb);
	if (!s) {
		if (!passes_on(skb) || !(key.socket = strange(skb)))
			return 0;
	}
	if (!read_seen(&p, skb))
		return 0;
	u32 lacks = features_evidence(features, p.v6);
	u8 api = key.api;
	callers(ctx, key.frames);
	if (lacks & SAW_NO_CSUM && s) {
		key.kind = FACT_PASS;
		count_copy(&key, &p, s, GROUP_PASS);
		key.api = api;
	}
	if (lacks & SAW_NO_SG)
		key.kind = FACT_SEGMENT;
	else if (lacks & SAW_NO_CSUM && p.shared)
		key.kind = FACT_SUMMED; // each part is made linear first
	else
		return 0;
	return count_copy(&key, &p, s, GROUP_FLAT);
}

// Making a packet linear is pulling all of it; less is about headers.
HOOK(__pskb_pull_tail)
{
	struct sk_buff *skb = (void *)ARGUMENT(1);
	u32 delta = ARGUMENT(2);
	if (delta < READ(skb, data_len) || !delta)
		return 0;
	return copied(ctx, skb, FACT_LINEARIZE, GROUP_FLAT, 0);
}

HOOK(skb_copy_ubufs)
{
	struct sk_buff *skb = (void *)ARGUMENT(1);
	bool tap = READ_BITFIELD((struct sk_buff___functions *)skb, pkt_type) == PACKET_OUTGOING;
	if (tap)
		return copied(ctx, skb, FACT_TAPPED, GROUP_TAP, 0);
	return copied(ctx, skb, FACT_PRIVATE, GROUP_PRIVATE, arrival(skb));
}

HOOK(skb_checksum_help)
{
	return copied(ctx, (void *)ARGUMENT(1), FACT_PASS, GROUP_PASS, 0);
}

HOOK(skb_pp_cow_data)
{
	u64 at = 0;
	struct sk_buff *skb = NULL;
#if defined(FENTRY)
	get_func_arg(ctx, 1, &at); // a pointer to a pointer, which the context does not give out
#else
	at = ARGUMENT(2);
#endif
	probe_read_kernel(&skb, sizeof(skb), (void *)at);
	return copied(ctx, skb, FACT_XDP, GROUP_OTHER, 0);
}

// Without skb_pp_cow_data (6.1 has none, 6.12 has) veth devices copy for XDP programs
// in functions of their own, which the compiler puts into others. They end with this
// one, that others call, too.
HOOK(skb_copy_header)
{
	struct sk_buff *old = (void *)ARGUMENT(2);
	if (READ(old, sk)) // one that comes in has lost it
		return 0;
	return copied(ctx, old, FACT_HEADER, GROUP_HEADER, 0);
}

HOOK(tun_net_xmit)
{
	return copied(ctx, (void *)ARGUMENT(1), FACT_TUN, GROUP_OTHER, 0);
}

HOOK(skb_copy)
{
	return copied(ctx, (void *)ARGUMENT(1), FACT_WHOLE, GROUP_OTHER, 0);
}

HOOK(skb_copy_expand)
{
	return copied(ctx, (void *)ARGUMENT(1), FACT_WHOLE, GROUP_OTHER, 0);
}

// ---- at the end

// snapshot is run by the tracer itself, for each socket that is still there.
SEC("raw_tp")
int snapshot(u64 *args)
{
	u64 key = args[0];
	struct sender_state *s = map_lookup(&senders, &key);
	if (!s || s->owner.protocol != IPPROTO_TCP)
		return 0;
	struct sock *sk = (void *)key;
	if (another(s, sk))
		return retire(s, key);
	// Of one that lost its ports, all that is there may be of others by now.
	if (READ(sk, __sk_common.skc_num) != s->owner.local_port)
		return 0;
	catch_up(s, sk);
	s->acked = READ((struct tcp_sock___functions *)key, snd_una);
	return 0;
}
