// What stands at the front of a frame, and how the sink finds the fields it
// needs. Addresses and ports stay in network order; all other numbers are
// turned into host order when they are read.
#pragma once
#include "kernel.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_FRAGMENT 44

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct eth {
	u8 dst[6];
	u8 src[6];
	u16 type;
} __attribute__((packed));

struct ipv4 {
	u8 version_ihl;
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment; // three flags, then the offset in units of 8 bytes
	u8 ttl;
	u8 protocol;
	u16 check;
	u32 src, dst;
} __attribute__((packed));

struct ipv6 {
	u32 version_class_flow;
	u16 length; // of what follows this header
	u8 next;
	u8 hop_limit;
	u32 src[4], dst[4];
} __attribute__((packed));

struct ipv6_fragment {
	u8 next;
	u8 reserved;
	u16 offset; // the offset in units of 8 bytes, then three flags
	u32 id;
} __attribute__((packed));

struct tcp {
	u16 src_port, dst_port;
	u32 seq, ack;
	u8 data_offset; // length of the header in words, in the upper half
	u8 flags;
	u16 window;
	u16 check;
	u16 urgent;
} __attribute__((packed));

struct udp {
	u16 src_port, dst_port;
	u16 length;
	u16 check;
} __attribute__((packed));

// key names a flow as the sender sees it. IPv4 addresses are mapped into IPv6.
struct key {
	u32 src[4], dst[4];
	u16 src_port, dst_port;
};

// packet is what was learnt about one packet of the sender.
struct packet {
	struct key key;
	u8 protocol;
	u8 tail;    // a fragment other than the first: it has no ports
	u32 size;   // payload
	u32 pieces; // packets of a wire, or datagrams, that this one stands for
	u32 seq, ack;
	u8 flags;
};

INLINE int parse_transport(void *at, void *end, u32 size, struct packet *p)
{
	if (p->tail) {
		p->size = size;
		return p->protocol == IPPROTO_UDP;
	}
	if (p->protocol == IPPROTO_UDP) {
		struct udp *u = at;
		if ((void *)(u + 1) > end || size < sizeof(*u))
			return 0;
		p->key.src_port = u->src_port;
		p->key.dst_port = u->dst_port;
		p->size = size - sizeof(*u);
		return 1;
	}
	if (p->protocol != IPPROTO_TCP)
		return 0;
	struct tcp *t = at;
	if ((void *)(t + 1) > end)
		return 0;
	u32 header = (t->data_offset >> 4) * 4;
	if (header < sizeof(*t) || size < header)
		return 0;
	p->key.src_port = t->src_port;
	p->key.dst_port = t->dst_port;
	p->seq = ntohl(t->seq);
	p->ack = ntohl(t->ack);
	p->flags = t->flags;
	p->size = size - header;
	return 1;
}

INLINE int parse_ipv4(struct ipv4 *ip, void *end, u32 size, struct packet *p)
{
	if ((void *)(ip + 1) > end || ip->version_ihl != 0x45)
		return 0;
	// The frame may be padded, and the length is 0 where it does not fit.
	u32 length = ntohs(ip->length);
	if (length > size)
		return 0;
	if (length)
		size = length;
	if (size < sizeof(*ip))
		return 0;
	p->key.src[2] = p->key.dst[2] = htonl(0xffff);
	p->key.src[3] = ip->src;
	p->key.dst[3] = ip->dst;
	p->protocol = ip->protocol;
	p->tail = (ntohs(ip->fragment) & 0x1fff) != 0;
	return parse_transport(ip + 1, end, size - sizeof(*ip), p);
}

INLINE int parse_ipv6(struct ipv6 *ip, void *end, u32 size, struct packet *p)
{
	if ((void *)(ip + 1) > end || size < sizeof(*ip))
		return 0;
	size -= sizeof(*ip);
	u32 length = ntohs(ip->length);
	if (length > size)
		return 0;
	if (length)
		size = length;
	__builtin_memcpy(p->key.src, ip->src, sizeof(ip->src));
	__builtin_memcpy(p->key.dst, ip->dst, sizeof(ip->dst));
	p->protocol = ip->next;
	if (ip->next != IPPROTO_FRAGMENT)
		return parse_transport(ip + 1, end, size, p);
	struct ipv6_fragment *f = (void *)(ip + 1);
	if ((void *)(f + 1) > end || size < sizeof(*f))
		return 0;
	p->protocol = f->next;
	p->tail = ntohs(f->offset) >> 3 != 0;
	return parse_transport(f + 1, end, size - sizeof(*f), p);
}

// parse reports whether the packet is one the sink deals with. p is zero before.
INLINE int parse(struct __sk_buff *skb, struct packet *p)
{
	void *end = (void *)(long)skb->data_end;
	struct eth *eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > end)
		return 0;
	u32 size = skb->len - sizeof(*eth);
	p->pieces = skb->gso_segs ? skb->gso_segs : 1;
	if (eth->type == htons(ETH_P_IP))
		return parse_ipv4((void *)(eth + 1), end, size, p);
	if (eth->type == htons(ETH_P_IPV6))
		return parse_ipv6((void *)(eth + 1), end, size, p);
	return 0;
}
