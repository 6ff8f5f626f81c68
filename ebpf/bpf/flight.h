// Packets that have left by a device, and what becomes of those that stay on this
// machine.
#pragma once

#include "packet.h"

// is_flight says whether a packet is the one that a flight was made for. Packets
// that are merged into others are freed without a trace, and what was theirs is
// the next one's: an acknowledgement's, say.
INLINE bool is_flight(const struct flight *f, const struct sk_buff *skb)
{
	u64 head = (u64)skb->head;
	return skb->len >= f->payload && (read_mark(head, skb->transport_header, f->datagram) == f->mark ||
					  read_mark(head, skb->inner_transport_header, f->datagram) == f->mark);
}

// lose_flight forgets a flight whose packet is gone without a trace: another lies where
// it lay. What of it was received here may have been copied.
INLINE void lose_flight(struct flight *f)
{
	if (f->packet && f->evidence & SEEN_RECEIVED && f->evidence & SEEN_LENT && f->lent_bytes) {
		struct counter_key key = {
			.socket = f->id, .device = f->device, .netns = f->netns, .kind = KIND_UNDER_WAY,
			.api = f->api, .class = f->class, .was = f->class, .evidence = f->evidence};
		count(&key, f->bytes - f->other_bytes, f->lent_bytes - f->other_lent);
		key.api = f->other_api;
		key.class = key.was = f->other_class;
		if (f->other_lent)
			count(&key, f->other_bytes, f->other_lent);
	}
	f->packet = 0;
}

INLINE struct flight *flight_of(const struct sk_buff *skb)
{
	struct flight *f = find_flight(packet_number(skb));
	if (f && !is_flight(f, skb)) {
		lose_flight(f);
		return NULL;
	}
	return f;
}

INLINE void count_flight(void *ctx, struct flight *f, u32 device, u32 netns, u32 met, u8 class, u64 where)
{
	struct counter_key key = {
		.socket = f->id, .where = where, .device = device, .netns = netns, .kind = KIND_AFTER,
		.api = f->api, .class = class, .was = f->class, .evidence = f->evidence | met};
	if (keep_stacks && is_copied(class) && !is_copied(f->class))
		key.stack = keep_stack(ctx);
	count(&key, f->bytes - f->other_bytes, f->lent_bytes - f->other_lent);
	if (!f->other_bytes)
		return;
	key.api = f->other_api;
	key.was = f->other_class;
	count(&key, f->other_bytes, f->other_lent);
}

// class_now is the class of the payload of a packet under way. Of pages that were
// lent with a notice it is enough to know whether the notice is still to be
// given: making them private, and making the packet linear, gives it. Of others
// the first page stands for all.
INLINE u8 class_now(const struct flight *f, const struct sk_buff *skb)
{
	if (!skb->data_len)
		return CLASS_LINEAR;
	struct skb_shared_info *shared = (void *)((u64)skb->head + skb->end);
	if (f->evidence & SEEN_LENT && f->lent_bytes)
		return READ(shared, flags) & SKBFL_ZEROCOPY_ENABLE ? CLASS_USER : CLASS_KERNEL;
	if (!READ(shared, nr_frags))
		return CLASS_UNKNOWN;
	u64 page = 0;
	probe_read_kernel(&page, sizeof(page), &shared->frags);
	return class_of(page);
}

// copied_beside says whether a packet that still has the pages it was lent was copied
// all the same: a clone of it was, for which the notice says so.
INLINE bool copied_beside(const struct flight *f, const struct sk_buff *skb)
{
	struct skb_shared_info *shared = (void *)((u64)skb->head + skb->end);
	struct ubuf_info_msgzc *notice = NULL;
	if (f->api != API_ZEROCOPY || f->evidence & SEEN_TAP || !FIELD_EXISTS(notice->zerocopy))
		return 0;
	notice = READ(shared, destructor_arg);
	return notice && !READ_BITFIELD(notice, zerocopy);
}

INLINE void met(u64 *args, const struct sk_buff *skb, u32 what, u64 where, bool last)
{
	struct flight *f = flight_of(skb);
	if (!f)
		return;
	if (f->queued) { // it never came to the door
		f->packet = 0;
		return;
	}
	u32 device = f->ingress ? f->ingress : f->device;
	u8 class = class_now(f, skb);
	if (f->evidence & SEEN_STAMP && class == CLASS_USER && copied_beside(f, skb))
		what |= SEEN_STAMPED;
	count_flight(args, f, device, f->netns, what, class, where);
	if (last)
		f->packet = 0;
}

SEC("tp_btf/netif_receive_skb")
int netif_receive_skb(u64 *args)
{
	struct sk_buff *skb = (void *)args[0];
	struct flight *f = flight_of(skb);
	if (!f)
		return 0;
	struct net_device *dev = skb->dev;
	if (!f->ingress)
		note_device((u64)READ(skb, dev));
	f->ingress = dev->ifindex;
	f->netns = netns_of(dev);
	f->evidence |= SEEN_RECEIVED;
	if (dev->xdp_prog)
		f->evidence |= SEEN_XDP;
	if (f->evidence & SEEN_LENT && device_tapped((u64)READ(skb, dev), 0))
		f->evidence |= SEEN_TAP_IN;
	return 0;
}

SEC("tp_btf/tcp_probe")
int tcp_probe(u64 *args)
{
	struct sk_buff *skb = (void *)args[1];
	struct flight *f = flight_of(skb);
	if (!f)
		return 0;
	// Packets that come while the receiver holds its socket are merged, and so
	// are those that come in bursts: the others are gone without a trace.
	u8 offset = 0;
	probe_read_kernel(&offset, sizeof(offset), skb->data + 12);
	u32 header = (offset >> 4) * 4, len = skb->len, payload = len > header ? len - header : 0;
	if (payload > f->payload && f->bytes) {
		u32 more = payload - f->payload;
		struct counter_key absorbed = {.socket = f->id, .kind = KIND_ABSORBED, .api = f->api, .evidence = f->evidence & SEEN_SAMPLED};
		count(&absorbed, more, 0);
		f->bytes += more;
		if (f->lent_bytes)
			f->lent_bytes += more;
	}
	met(args, skb, MET_SOCKET, 0, 1);
	return 0;
}

SEC("tp_btf/skb_copy_datagram_iovec")
int skb_copy_datagram_iovec(u64 *args)
{
	met(args, (void *)args[0], MET_READER, 0, 1);
	return 0;
}

SEC("tp_btf/consume_skb")
int consume_skb(u64 *args)
{
	met(args, (void *)args[0], MET_FREED, args[1], 1);
	return 0;
}

// Before Linux 6.3 nothing says where.
SEC("tp_btf/consume_skb")
int consume_skb_nowhere(u64 *args)
{
	met(args, (void *)args[0], MET_FREED, 0, 1);
	return 0;
}

SEC("tp_btf/kfree_skb")
int kfree_skb(u64 *args)
{
	met(args, (void *)args[0], MET_DROPPED, args[1], 1);
	return 0;
}
