// How an answer becomes a frame.
#pragma once
#include "flow.h"

// settings are written by the loader.
struct settings {
	u32 device; // the device of the far end, by which answers leave
	u32 window; // that the sink offers, in bytes
	u32 scale;  // by which windows are shifted
	u32 hold;   // windows do not move
	u16 mss_v4, mss_v6;
	u8 near_mac[6], far_mac[6];
};

// fold makes an Internet checksum of a sum.
INLINE u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// segment is the sink's TCP header; the options are there in a SYN-ACK alone.
// They are not chosen by those of the SYN: the sender is a Linux that ignores
// what it did not ask for. No timestamps and no SACK.
struct segment {
	struct tcp tcp;
	u8 mss_option[2];
	u16 mss;
	u8 scale_option[3]; // with a NOP before it
	u8 scale;
} __attribute__((packed));

// The frames are two bytes off, so that what follows the Ethernet header can be
// summed in words. The longer is the length of the acker's packet: a shorter
// one leaves padding at the end, which receivers cut off as they do with that
// of an Ethernet.
struct frame_v4 {
	u16 pad;
	struct eth eth;
	struct ipv4 ip;
	struct segment segment;
} __attribute__((packed, aligned(4)));

struct frame_v6 {
	u16 pad;
	struct eth eth;
	struct ipv6 ip;
	struct segment segment;
} __attribute__((packed, aligned(4)));

#define FRAME (sizeof(struct frame_v6) - 2)
_Static_assert(FRAME == 14 + 40 + 28, "ackerFrame of the loader");

// build writes the segment without its checksum and returns its length.
INLINE u32 build_segment(struct segment *s, const struct answer *a, const struct key *key,
			 const struct settings *set, u16 mss)
{
	u32 length = a->flags & TCP_SYN ? sizeof(*s) : sizeof(s->tcp);
	s->tcp.src_port = key->dst_port;
	s->tcp.dst_port = key->src_port;
	s->tcp.seq = htonl(a->seq);
	s->tcp.ack = htonl(a->ack);
	s->tcp.data_offset = length / 4 << 4;
	s->tcp.flags = a->flags;
	s->tcp.window = htons(a->window);
	if (!(a->flags & TCP_SYN))
		return length;
	s->mss_option[0] = 2;
	s->mss_option[1] = 4;
	s->mss = htons(mss);
	s->scale_option[0] = 1;
	s->scale_option[1] = 3;
	s->scale_option[2] = 3;
	s->scale = set->scale;
	return length;
}

INLINE void build_eth(struct eth *e, const struct settings *set, u16 type)
{
	__builtin_memcpy(e->dst, set->near_mac, 6);
	__builtin_memcpy(e->src, set->far_mac, 6);
	e->type = htons(type);
}

INLINE int write_v4(struct __sk_buff *skb, const struct answer *a, const struct key *key,
		    const struct settings *set)
{
	struct frame_v4 f = {};
	build_eth(&f.eth, set, ETH_P_IP);
	u32 length = build_segment(&f.segment, a, key, set, set->mss_v4);
	f.ip.version_ihl = 0x45;
	f.ip.length = htons(sizeof(f.ip) + length);
	f.ip.fragment = htons(0x4000); // do not
	f.ip.ttl = 64;
	f.ip.protocol = IPPROTO_TCP;
	f.ip.src = key->dst[3];
	f.ip.dst = key->src[3];
	f.ip.check = fold(csum_diff(0, 0, &f.ip, sizeof(f.ip), 0));
	// Bytes of a SYN-ACK that are not sent are 0 and do not change the sum.
	u64 sum = (u32)csum_diff(0, 0, &f.segment, sizeof(f.segment), 0);
	sum += (u64)f.ip.src + f.ip.dst + htons(IPPROTO_TCP) + htons(length);
	f.segment.tcp.check = fold(sum);
	return skb_store_bytes(skb, 0, &f.eth, sizeof(f) - 2, 0);
}

INLINE int write_v6(struct __sk_buff *skb, const struct answer *a, const struct key *key,
		    const struct settings *set)
{
	struct frame_v6 f = {};
	build_eth(&f.eth, set, ETH_P_IPV6);
	u32 length = build_segment(&f.segment, a, key, set, set->mss_v6);
	f.ip.version_class_flow = htonl(6u << 28);
	f.ip.length = htons(length);
	f.ip.next = IPPROTO_TCP;
	f.ip.hop_limit = 64;
	__builtin_memcpy(f.ip.src, key->dst, sizeof(f.ip.src));
	__builtin_memcpy(f.ip.dst, key->src, sizeof(f.ip.dst));
	u64 sum = (u32)csum_diff(0, 0, &f.segment, sizeof(f.segment), 0);
	sum = (u32)csum_diff(0, 0, f.ip.src, sizeof(f.ip.src) + sizeof(f.ip.dst), sum);
	sum += htons(IPPROTO_TCP) + (u64)htons(length);
	f.segment.tcp.check = fold(sum);
	return skb_store_bytes(skb, 0, &f.eth, sizeof(f) - 2, 0);
}
