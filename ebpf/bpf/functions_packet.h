// Packets that are copied: how much payload, of which part of the stream.
#pragma once

#include "functions_socket.h"

#define CHECKSUM_PARTIAL 3
#define PACKET_OUTGOING 4
#define MAX_FRAGS 17 // MAX_SKB_FRAGS unless configured otherwise

// seen is what is read of a packet.
struct seen {
	u64 head;
	u32 seq, payload, linear;
	u32 evidence, device, netns;
	u8 v6, protocol, lent, shared;
};

INLINE struct skb_shared_info *shared_of(struct sk_buff *skb)
{
	return (void *)((u64)READ(skb, head) + READ(skb, end));
}

// read_flags tells pages lent with a notice, and those that belong to others.
INLINE void read_flags(struct skb_shared_info *shared, u8 *lent, u8 *others)
{
	if (FIELD_EXISTS(shared->flags)) {
		u8 flags = READ(shared, flags);
		*lent = flags & 1;
		*others = flags >> 1 & 1;
	} else { // until Linux 5.11
		u8 flags = READ((struct skb_shared_info___functions *)shared, tx_flags);
		*lent = flags >> 3 & 1;
		*others = flags >> 5 & 1;
	}
}

LOCAL u32 class_of(u64 page)
{
	if (page & 1)
		return LIES_DEVICE;
	struct page *p = (void *)page;
	struct page___7_3 *newer = (void *)page;
	if (FIELD_EXISTS(newer->compound_info)) {
		// A mask where pages are as large as a power of two.
		u64 info = READ(newer, compound_info), size = __builtin_preserve_type_info(*p, 1);
		if (info & 1)
			p = (void *)(size & (size - 1) ? info - 1 : page & info);
	} else {
		u64 head = READ(p, compound_head);
		if (head & 1)
			p = (void *)(head - 1);
	}
	u64 mapping = (u64)READ(p, mapping);
	if (mapping)
		return mapping & 1 ? LIES_USER : mapping & 2 ? LIES_KERNEL : LIES_CACHE;
	u64 flags = 0;
	probe_read_kernel(&flags, sizeof(flags), p);
	return flags >> bit_reserved & 1 ? LIES_USER : LIES_KERNEL; // the zero page
}

// note_link keeps the name of a device, which cannot be asked for later from
// another namespace. Numbers of namespaces are soon used again when one is gone, and
// devices are renamed.
LOCAL int note_link(struct net_device *dev, u32 netns, u32 index)
{
	struct link_key key = {.netns = netns, .index = index};
	const struct rtnl_link_ops *ops = READ(dev, rtnl_link_ops);
	struct link *known = map_lookup(&links, &key);
	struct link d = {.operations = (u64)ops};
	probe_read_kernel(d.name, sizeof(d.name), &dev->name);
	if (known && known->operations == d.operations && same_name(known->name, d.name))
		return 0;
	const char *type = NULL;
	if (ops && !probe_read_kernel(&type, sizeof(type), &ops->kind) && type)
		probe_read_kernel_str(d.type, sizeof(d.type), type);
	map_update(&links, &key, &d, BPF_ANY);
	return 0;
}

INLINE u32 features_evidence(u64 features, bool v6)
{
	u32 seen = 0;
	if (!(features & NETIF_F_SG))
		seen |= SAW_NO_SG;
	if (!(features & (NETIF_F_HW_CSUM | (v6 ? NETIF_F_IPV6_CSUM : NETIF_F_IP_CSUM))))
		seen |= SAW_NO_CSUM;
	return seen;
}

INLINE u32 device_evidence(struct net_device *dev, bool v6)
{
	u32 seen = features_evidence(READ(dev, features), v6);
	if (READ(dev, flags) & IFF_LOOPBACK)
		seen |= SAW_LOOPBACK;
	return seen;
}

struct net_hotdata {
	struct list_head ptype_all;
} CORE;

struct in_ifaddr {
	struct in_ifaddr *ifa_next;
	u32 ifa_local;
} CORE;

struct ipv4_devconf {
	int data[1]; // the first says whether the device forwards
} CORE;

struct in_device {
	struct in_ifaddr *ifa_list;
	struct ipv4_devconf cnf;
} CORE;

struct inet6_ifaddr {
	struct in6_addr addr;
	struct list_head if_list;
} CORE;

struct ipv6_devconf {
	int forwarding;
} CORE;

struct inet6_dev {
	struct list_head addr_list;
	struct ipv6_devconf cnf;
} CORE;

struct net_device___functions {
	struct in_device *ip_ptr;
	struct inet6_dev *ip6_ptr;
} CORE;

INLINE bool filled(struct list_head *list)
{
	struct list_head *next = READ(list, next);
	return next && next != list;
}

// tapped says whether a packet socket takes what the device receives. Until Linux
// 6.12 those of all namespaces are on one list.
INLINE bool tapped(struct net_device *dev)
{
	struct net *net = READ(dev, nd_net.net);
	struct net_hotdata *hot = (void *)data_hotdata;
	if (filled(&dev->ptype_all))
		return 1;
	if (FIELD_EXISTS(net->ptype_all))
		return filled(&net->ptype_all);
	if (FIELD_EXISTS(hot->ptype_all) && hot)
		return filled(&hot->ptype_all);
	return data_ptype_all && filled((void *)data_ptype_all);
}

// bound_v4 says whether a packet that has come in is for an address of the device,
// and if not, whether the device forwards.
INLINE u32 bound_v4(struct in_device *in, u32 to)
{
	int forwards = 0;
	probe_read_kernel(&forwards, sizeof(forwards), &in->cnf.data);
	struct in_ifaddr *at = READ(in, ifa_list);
	for (int i = 0; i < 8 && at; i++) {
		if (READ(at, ifa_local) == to)
			return SAW_LOCAL;
		at = READ(at, ifa_next);
	}
	return forwards ? SAW_FORWARDING : 0;
}

INLINE u32 bound_v6(struct inet6_dev *in, const u64 *to)
{
	struct list_head *at = READ(in, addr_list.next);
	u64 own[2];
	for (int i = 0; i < 8; i++) {
		if (!at || at == &in->addr_list)
			break;
		struct inet6_ifaddr *a = (void *)at - FIELD_OFFSET(((struct inet6_ifaddr *)0)->if_list);
		if (!probe_read_kernel(own, sizeof(own), &a->addr) && own[0] == to[0] && own[1] == to[1])
			return SAW_LOCAL;
		at = READ(at, next);
	}
	return READ(in, cnf.forwarding) ? SAW_FORWARDING : 0;
}

LOCAL u32 bound(struct net_device *dev, struct sk_buff *skb)
{
	u64 b[5] = {};
	if (probe_read_kernel(b, sizeof(b), (void *)((u64)READ(skb, head) + READ(skb, network_header))))
		return 0;
	if ((b[0] & 0xf0) == 0x40) {
		struct in_device *in = READ((struct net_device___functions *)dev, ip_ptr);
		return in ? bound_v4(in, (u32)b[2]) : 0;
	}
	if ((b[0] & 0xf0) == 0x60) {
		struct inet6_dev *in = READ((struct net_device___functions *)dev, ip6_ptr);
		return in ? bound_v6(in, b + 3) : 0;
	}
	return 0;
}

// arrival is what is known of a packet that is copied where it comes in.
LOCAL u32 arrival(struct sk_buff *skb)
{
	struct net_device *dev = READ(skb, dev);
	if (!dev)
		return 0;
	return (tapped(dev) ? SAW_TAP_IN : 0) | bound(dev, skb);
}

INLINE u32 be32(const u8 *b)
{
	return (u32)b[0] << 24 | (u32)b[1] << 16 | (u32)b[2] << 8 | b[3];
}

// read_seen reads what is needed of a packet. Its transport header is looked for
// behind that of IP: clones for packet sockets have none. False if it is no
// packet of TCP or UDP with payload.
LOCAL u32 read_seen(struct seen *p, struct sk_buff *skb)
{
	u8 b[20] = {};
	u64 head = (u64)READ(skb, head);
	bool inner = READ_BITFIELD(skb, encapsulation);
	u32 network = inner ? READ(skb, inner_network_header) : READ(skb, network_header), at, start;
	p->head = head;
	p->evidence = inner ? SAW_ENCAP : 0;
	p->seq = 0;
	p->v6 = 0;
	if (probe_read_kernel(b, sizeof(b), (void *)(head + network)))
		return 0;
	u32 later = 0; // a fragment that is not the first: it has no transport header
	if (b[0] >> 4 == 4) {
		p->protocol = b[9];
		at = network + (b[0] & 15) * 4;
		if ((b[6] & 0x3f) | b[7])
			p->evidence |= SAW_FRAGMENT;
		later = (b[6] & 0x1f) | b[7];
	} else if (b[0] >> 4 == 6) {
		p->v6 = 1;
		p->protocol = b[6];
		at = network + 40;
		if (b[6] == 44) {
			u8 fragment[8] = {};
			probe_read_kernel(fragment, sizeof(fragment), (void *)(head + at));
			p->protocol = fragment[0];
			p->evidence |= SAW_FRAGMENT;
			later = fragment[2] | (fragment[3] & 0xf8);
			at += 8;
		}
	} else {
		return 0;
	}
	if (p->protocol == IPPROTO_UDP) {
		start = later ? at : at + 8;
	} else if (p->protocol == IPPROTO_TCP && !later) {
		if (probe_read_kernel(b, sizeof(b), (void *)(head + at)))
			return 0;
		p->seq = be32(b + 4) + (b[13] >> 1 & 1); // SYN takes a number
		start = at + (b[12] >> 4) * 4;
	} else {
		return 0;
	}
	u32 skipped = start - (u32)((u64)READ(skb, data) - head), len = READ(skb, len), in_head = len - READ(skb, data_len);
	if ((s32)skipped < 0 || skipped >= len)
		return 0;
	p->payload = len - skipped;
	p->linear = in_head > skipped ? in_head - skipped : 0;
	read_flags(shared_of(skb), &p->lent, &p->shared);
	struct net_device *dev = READ(skb, dev);
	p->device = p->netns = 0;
	if (dev) {
		p->device = READ(dev, ifindex);
		p->netns = namespace_of(READ(dev, nd_net.net));
		p->evidence |= device_evidence(dev, p->v6);
		note_link(dev, p->netns, p->device);
	}
	return 1;
}

// owner_by_tuple finds the socket of a packet by its addresses.
LOCAL struct sender_state *owner_by_tuple(struct sk_buff *skb)
{
	struct tuple key = {};
	u8 first[10] = {};
	u64 head = (u64)READ(skb, head), network, ports;
	network = head + (READ_BITFIELD(skb, encapsulation) ? READ(skb, inner_network_header) : READ(skb, network_header));
	if (probe_read_kernel(first, sizeof(first), (void *)network))
		return NULL;
	if (first[0] >> 4 == 4) {
		key.protocol = first[9];
		probe_read_kernel(key.from, 4, (void *)(network + 12));
		probe_read_kernel(key.to, 4, (void *)(network + 16));
		ports = network + (first[0] & 15) * 4;
	} else if (first[0] >> 4 == 6) {
		key.protocol = first[6];
		probe_read_kernel(key.from, 16, (void *)(network + 8));
		probe_read_kernel(key.to, 16, (void *)(network + 24));
		ports = network + 40;
	} else {
		return NULL;
	}
	probe_read_kernel(&key.from_port, 4, (void *)ports);
	struct lender *l = map_lookup(&tuples, &key);
	if (!l)
		return NULL;
	u64 sock = l->sock;
	struct sender_state *s = map_lookup(&senders, &sock);
	return s && s->owner.id == l->id ? s : NULL;
}

// owner_of finds the socket a packet belongs to: by the packet itself, or by the
// notice that somebody waits for.
LOCAL struct sender_state *owner_of(struct sk_buff *skb, u8 *api)
{
	u64 key = (u64)READ(skb, sk);
	struct sender_state *s = key ? map_lookup(&senders, &key) : NULL;
	struct skb_shared_info *shared = shared_of(skb);
	u8 lent = 0, others = 0;
	*api = 0;
	read_flags(shared, &lent, &others);
	if (!lent)
		return s;
	u64 notice = (u64)READ(shared, destructor_arg);
	struct lender *l = map_lookup(&lenders, &notice);
	if (!l)
		return s;
	*api = l->api;
	if (s)
		return s;
	key = l->sock;
	s = map_lookup(&senders, &key);
	return s && s->owner.id == l->id ? s : NULL;
}

// passes_on says whether a packet leaves by another device than it came in by. Where it
// came in it has lost its socket.
INLINE bool passes_on(struct sk_buff *skb)
{
	struct net_device *dev = READ(skb, dev);
	return dev && READ(dev, ifindex) != READ((struct sk_buff___functions *)skb, skb_iif);
}

// strange stands for the socket of a packet whose addresses were translated on its way:
// by where it comes from and where it goes to, as one of them is often left as it was.
// 0 if neither is of a socket: what a machine passes on for others, to guests of its own
// say, costs no more than that.
LOCAL u64 strange(struct sk_buff *skb)
{
	u64 network = (u64)READ(skb, head);
	u8 version = 0;
	u32 from[4] = {}, to[4] = {};
	network += READ_BITFIELD(skb, encapsulation) ? READ(skb, inner_network_header) : READ(skb, network_header);
	probe_read_kernel(&version, sizeof(version), (void *)network);
	if (version >> 4 == 4) {
		probe_read_kernel(from, 4, (void *)(network + 12));
		probe_read_kernel(to, 4, (void *)(network + 16));
	} else {
		probe_read_kernel(from, sizeof(from), (void *)(network + 8));
		probe_read_kernel(to, sizeof(to), (void *)(network + 24));
	}
	from[0] = fold(from);
	to[0] = fold(to);
	if (!map_lookup(&ends, &from[0]) && !map_lookup(&ends, &to[0]))
		return 0;
	return STRANGE | (u64)from[0] << 32 | to[0];
}

INLINE void count_span(struct fact_key *key, const struct span *span, u8 other, u32 bytes)
{
	u32 evidence = key->evidence;
	key->api = span->api ? span->api : other;
	key->evidence |= span_evidence(span);
	state_fact(key, bytes);
	key->evidence = evidence;
}

// fresh cuts a part of a stream down to what was not copied before; false if nothing
// is left. What was is sent again.
INLINE bool fresh(struct progress *p, u32 *start, u32 *end)
{
	u32 edge = p->edge;
	if ((s32)(*end - edge) > 0) {
		if ((s32)(*start - edge) < 0)
			*start = edge;
		else if (*start != edge)
			p->holes[p->newest++ % HOLES] = (struct hole){edge, *start};
		asm volatile("" ::: "memory"); // another CPU has to find the hole below the edge
		if ((s32)(*end - p->edge) > 0)
			p->edge = *end;
		return *start != *end;
	}
	for (int i = 0; i < HOLES; i++) {
		struct hole *h = &p->holes[i];
		u32 low = h->start, high = h->end, rest = high;
		if ((s32)(*start - low) > 0)
			low = *start;
		if ((s32)(*end - high) < 0)
			high = *end;
		if ((s32)(high - low) <= 0)
			continue;
		if (low == h->start) {
			h->start = high;
		} else {
			h->end = low;
			if (high != rest)
				p->holes[p->newest++ % HOLES] = (struct hole){high, rest};
		}
		*start = low;
		*end = high;
		return 1;
	}
	return 0;
}

// count_copy counts the payload of a packet from offset on as copied, once for
// each group. Where nobody knows whose it is, once each time. A function called with
// what the program has read.
LOCAL int count_copy(struct fact_key *key, struct seen *p, struct sender_state *s, u32 group)
{
	u32 start = p->seq, end = p->seq + p->payload;
	u8 other = key->api;
	key->device = p->device;
	key->netns = p->netns;
	key->evidence |= p->evidence;
	// All of a packet that is cut up is copied, else what is not in its head.
	if (key->kind != FACT_SEGMENT && key->kind != FACT_PASS && key->kind != FACT_TUN && key->kind != FACT_XDP &&
	    key->kind != FACT_HEADER)
		start += p->linear;
	if (!s) {
		if (start != end)
			state_fact(key, end - start);
		return 0;
	}
	key->socket = s->owner.id;
	if (only_device && s->device && s->device != only_device)
		return 0;
	if (p->protocol != IPPROTO_TCP) {
		if (p->lent || p->shared)
			key->evidence |= SAW_LENT;
		struct span *span = &s->at[s->newest % SPANS];
		key->api = other ? other : span->api;
		if (start != end)
			state_fact(key, end - start);
		return 0;
	}
	if (!fresh(&s->copies[group & 7], &start, &end))
		return 0;
	// A packet of several spans: those are told apart by four.
	for (int i = 0; i < 4 && start != end; i++) {
		u32 number = find_span(s, start), stop = end;
		struct span span = {};
		if (number == NO_SPAN)
			number = s->first - 1;
		else
			span = s->at[number % SPANS];
		if (i < 3 && number != s->newest) {
			u32 next = s->at[(number + 1) % SPANS].start;
			if ((s32)(next - start) > 0 && (s32)(next - end) < 0)
				stop = next;
		}
		count_span(key, &span, other, stop - start);
		start = stop;
	}
	return 0;
}
