// Packets: how much payload, in which memory, of which part of the stream.
#pragma once

#include "socket.h"

#define NETIF_F_SG (1 << 0)
#define NETIF_F_IP_CSUM (1 << 1)
#define NETIF_F_HW_CSUM (1 << 3)
#define NETIF_F_IPV6_CSUM (1 << 4)
#define IFF_LOOPBACK 8
#define SKBFL_ZEROCOPY_ENABLE 1
#define SKBFL_PURE_ZEROCOPY 4
#define ETH_P_IP 0x0008	  // in network order on a little-endian machine
#define ETH_P_IPV6 0xdd86

// page_word reads a field of a page from its first words, which were read at once.
#define page_word(words, field) (words)[FIELD_OFFSET(field) / 8 % 4]

GLOBAL u32 class_of(u64 page)
{
	if (page & 1)
		return CLASS_DEVICE;
	struct page *p = (void *)page;
	struct page___7_3 *newer = (void *)page;
	u64 word[4] = {}, head = page;
	probe_read_kernel(word, sizeof(word), p);
	if (FIELD_EXISTS(newer->compound_info)) {
		// A mask where pages are as large as a power of two.
		u64 info = page_word(word, newer->compound_info), size = __builtin_preserve_type_info(*p, 1);
		if (info & 1)
			head = size & (size - 1) ? info - 1 : page & info;
	} else {
		u64 info = page_word(word, p->compound_head);
		if (info & 1)
			head = info - 1;
	}
	if (head != page)
		probe_read_kernel(word, sizeof(word), (void *)head);
	u64 mapping = page_word(word, p->mapping);
	if (mapping)
		return mapping & 1 ? CLASS_USER : mapping & 2 ? CLASS_KERNEL : CLASS_CACHE;
	// The zero page stands for memory that was never written to.
	if (word[0] >> bit_reserved & 1)
		return CLASS_USER;
	// A page of a file that was removed or truncated belongs to nobody any more. But it
	// was filled from there, which is said of no page that is made for payload.
	if (word[0] >> bit_uptodate & 1)
		return CLASS_CACHE;
	return CLASS_KERNEL;
}

// tapped says whether a packet socket on the list takes packets.
INLINE bool tapped(struct list_head *list, bool outgoing)
{
	struct list_head *at = READ(list, next);
	for (int i = 0; i < 4; i++) {
		if (!at || at == list)
			return 0;
		struct packet_type *tap = (void *)at - FIELD_OFFSET(((struct packet_type *)0)->list);
		if (!outgoing || !READ(tap, ignore_outgoing))
			return 1;
		at = READ(at, next);
	}
	return 0;
}

GLOBAL u32 device_tapped(u64 device, u32 outgoing)
{
	struct net_device *dev = (void *)device;
	if (tapped(&dev->ptype_all, outgoing))
		return 1;
	struct net *net = READ(dev, nd_net.net);
	return FIELD_EXISTS(net->ptype_all) && tapped(&net->ptype_all, outgoing);
}

// netns_of names the network namespace of a device by what is never used twice:
// the number that /proc has for it is soon that of another when it is gone.
INLINE u32 netns_of(struct net_device *dev)
{
	return dev->nd_net.net->net_cookie;
}

// note_device keeps the name of a device, which cannot be asked for later from
// another namespace. Devices are renamed.
GLOBAL int note_device(u64 device)
{
	struct net_device *dev = (void *)device;
	struct net *net = READ(dev, nd_net.net);
	struct rtnl_link_ops *ops = (void *)READ(dev, rtnl_link_ops);
	struct device_key key = {.netns = READ(net, net_cookie), .index = READ(dev, ifindex)};
	struct device *known = map_lookup(&devices, &key);
	struct device d = {.operations = (u64)ops, .netns = READ(net, ns.inum)};
	probe_read_kernel(d.name, sizeof(d.name), &dev->name);
	if (known && known->operations == d.operations && same_name(known->name, d.name))
		return 0;
	const char *type = READ(ops, kind);
	if (type)
		probe_read_kernel_str(d.type, sizeof(d.type), type);
	map_update(&devices, &key, &d, BPF_ANY);
	return 0;
}

#define STAMPS 0xc3	   // SKBTX_HW_TSTAMP, SW_TSTAMP, SCHED_TSTAMP and BPF
#define STAMP_ALONE 2048   // SOF_TIMESTAMPING_OPT_TSONLY

// stamped says whether a timestamp is to come back with the payload of a packet: with a
// clone of it, of which nobody has pages that are lent.
INLINE bool stamped(const struct packet *p, u64 sk)
{
	struct skb_shared_info *shared = NULL;
	u8 flags = p->shared[FIELD_OFFSET(shared->tx_flags) % 64];
	u32 key = *(u32 *)(p->shared + FIELD_OFFSET(shared->tskey) % 64);
	return (flags & STAMPS || key) && !(READ((struct sock *)sk, sk_tsflags) & STAMP_ALONE);
}

INLINE u32 device_evidence(struct net_device *dev, bool v6)
{
	u64 features = dev->features, csum = NETIF_F_HW_CSUM | (v6 ? NETIF_F_IPV6_CSUM : NETIF_F_IP_CSUM);
	u32 seen = 0;
	if (!(features & NETIF_F_SG))
		seen |= SEEN_NO_SG;
	if (!(features & csum))
		seen |= SEEN_NO_CSUM;
	if (dev->flags & IFF_LOOPBACK)
		seen |= SEEN_LOOPBACK;
	return seen;
}

// read_mark reads what tells a packet from the next at the same address: the
// sequence number, or the length, of a transport header. Ports are left out,
// which address translation changes, and checksums.
INLINE u32 read_mark(u64 head, u32 at, bool datagram)
{
	u32 mark = 0;
	probe_read_kernel(&mark, sizeof(mark), (void *)(head + at + 4));
	return datagram ? mark & 0xffff : mark;
}

// transport finds where the payload begins, counted from the head, and notes
// the sequence number. False if the packet is none of a known protocol.
INLINE bool transport(struct packet *p, u32 *payload)
{
	u64 head = p->head;
	u8 *b = p->headers;
	u32 network = p->network, at = p->transport;
	if (p->inner)
		p->evidence |= SEEN_ENCAP;
	// Both headers at once, where the first has no options: that is always.
	if (probe_read_kernel(b, sizeof(p->headers), (void *)(head + network)))
		return 0;
	if (b[0] >> 4 == 4) {
		if (b[9] != p->protocol)
			return 0;
		if ((b[6] & 0x3f) | b[7]) {
			p->evidence |= SEEN_FRAGMENT;
			if ((b[6] & 0x1f) | b[7]) {
				*payload = network + (b[0] & 15) * 4;
				p->mark = read_mark(head, at, 1);
				return p->protocol == IPPROTO_UDP;
			}
		}
	} else if (b[0] >> 4 == 6) {
		p->flags |= PACKET_V6;
		if (b[6] == 44) {
			u8 fragment[8] = {};
			probe_read_kernel(fragment, 8, (void *)(head + network + 40));
			p->evidence |= SEEN_FRAGMENT;
			if (fragment[2] | (fragment[3] & 0xf8)) {
				*payload = network + 48;
				p->mark = read_mark(head, at, 1);
				return p->protocol == IPPROTO_UDP;
			}
			at = network + 48;
		}
	} else {
		return 0;
	}
	if (at == network + 20)
		b += 20;
	else if (probe_read_kernel(b, 20, (void *)(head + at)))
		return 0;
	if (p->protocol == IPPROTO_UDP) {
		p->mark = b[4] | b[5] << 8;
		*payload = at + 8;
		return 1;
	}
	p->mark = *(u32 *)(b + 4);
	p->seq = (u32)b[4] << 24 | (u32)b[5] << 16 | (u32)b[6] << 8 | b[7];
	if (b[13] & 2) // SYN takes a number
		p->seq++;
	p->number = p->seq;
	*payload = at + (b[12] >> 4) * 4;
	return 1;
}

// parse reads the headers and the fragments of a packet; false if it has no
// payload of a known protocol.
GLOBAL u32 parse(struct packet *p)
{
	if (!p)
		return 0;
	u32 start = 0;
	if (!transport(p, &start)) {
		LOSE(unparsed);
		return 0;
	}
	u32 skipped = start - p->data, len = p->len;
	if (skipped >= len || skipped > 4096)
		return 0;
	p->payload = len - skipped;
	u32 in_head = len - p->data_len;
	p->linear = in_head > skipped ? in_head - skipped : 0;
	struct skb_shared_info *shared = (void *)(p->head + p->end);
	probe_read_kernel(p->shared, sizeof(p->shared), shared);
	p->frags = p->shared[FIELD_OFFSET(shared->nr_frags) % 64];
	p->gso = *(u16 *)(p->shared + FIELD_OFFSET(shared->gso_size) % 64) != 0;
	u8 flags = p->shared[FIELD_OFFSET(shared->flags) % 64];
	if (flags & SKBFL_ZEROCOPY_ENABLE) {
		p->evidence |= SEEN_LENT;
		if (flags & SKBFL_PURE_ZEROCOPY)
			p->flags |= PACKET_PURE;
	}
	u32 n = p->frags;
	if (n > MAX_FRAGS) {
		LOSE(frags);
		n = MAX_FRAGS;
	}
	HIDE(n);
	probe_read_kernel(p->frag, n % FRAG_ROOM * sizeof(p->frag[0]), &shared->frags);
	return 1;
}

// read_packet reads what is needed of a packet on a device; false if it has no
// payload of a known protocol. What it asks the verifier's types for it asks for
// in a row, and leaves the rest to parse.
INLINE bool read_packet(struct packet *p, struct sk_buff *skb, struct net_device *dev, u8 protocol)
{
	p->id = packet_number(skb);
	p->head = (u64)skb->head;
	p->data = (u64)skb->data - p->head;
	p->end = skb->end;
	p->len = skb->len;
	p->data_len = skb->data_len;
	p->inner = BITFIELD(skb, encapsulation);
	u32 inner = -(u32)p->inner; // all bits, or none
	p->network = (skb->inner_network_header & inner) | (skb->network_header & ~inner);
	p->transport = (skb->inner_transport_header & inner) | (skb->transport_header & ~inner);
	u32 partial = BITFIELD(skb, ip_summed); // 0 to 3
	p->evidence = (partial & partial >> 1) * SEEN_PARTIAL;
	p->mark = 0;
	p->flags = 0;
	p->seq = p->number = 0;
	p->protocol = protocol;
	p->device = dev->ifindex;
	p->netns = netns_of(dev);
	return parse(p);
}

INLINE u8 frag_class(const struct packet *p, u32 i)
{
	if (p->flags & PACKET_PURE)
		return CLASS_USER; // all of it is lent: no page needs to be looked at
	return class_of(p->frag[i % FRAG_ROOM].page);
}

INLINE bool is_copied(u8 class) { return class == CLASS_LINEAR || class == CLASS_KERNEL; }
