//go:build ignore

// The far end of a veth pair that takes everything and keeps nothing. Payload
// is never read: packets are freed where they arrive, at tc ingress, so that no
// copy is made of the pages that a zero-copy send refers to. TCP is answered
// with packets made from nothing: the one that arrives cannot be turned into
// its own answer, for it shares the sender's pages, and both trimming it and
// sending it back into an IP stack copy them.
//
// Linux 5.10 is enough: no atomic operation returns a value, no helper is
// younger, and the few loops have constant bounds.

#include "flow.h"

#define MAX_FLOWS 16384 // of each kind; the loader sets another number

// SPINS is how often a run of the acker looks for work before it gives up: a
// microsecond, more or less.
#define SPINS 1024

// PAUSE_RUNS is how many runs of the acker let new work gather after the queue
// has run empty: some 3 microseconds, as network cards do with their interrupts.
// An ACK for each packet of 64 KiB costs a bulk sender a quarter of its speed, in
// contention for the socket and for the queue.
#define PAUSE_RUNS 3

// IDLE_RUNS is how many runs of the acker in a row must find nothing to do
// before it rests, some 50 microseconds. Waking it costs the sender two.
#define IDLE_RUNS 50

// settings are written by the loader.
struct settings {
	u32 device; // the device of the far end, by which answers leave
	u32 window; // that the sink offers, in bytes
	u32 scale;  // by which windows are shifted
	u32 hold;   // windows do not move
	u16 mss_v4, mss_v6;
	u8 near_mac[6], far_mac[6];
};

// bell is how those who queue a flow wake the acker.
struct bell {
	struct bpf_spin_lock lock; // of pushed and asleep
	u32 pushed;                // flows put into the queue
	u32 asleep;                // the acker waits for a wakeup
	u32 not_used[13];
	// The acker's own, on a cache line of its own:
	u32 popped; // flows taken from the queue
	u32 idle;   // runs in a row that found none
	u32 pause;  // runs still to be let go by
};

// totals are counted by each CPU for itself.
struct totals {
	u64 tcp_bytes, tcp_packets, tcp_segments;
	u64 udp_bytes, udp_packets, udp_datagrams, udp_fragments;
	u64 opened, created, closed, reset_by_sender, reset_by_sink;
	u64 acks, duplicates, out_of_order, discarded;
	u64 refused; // SYNs for which there was no room
	u64 strays;  // segments of connections that do not exist
	u64 other;   // packets of other protocols
	u64 lost;    // answers that could not be queued or sent
};

// datagrams are counted per flow as long as there is room: the least recently
// used are forgotten.
struct datagrams {
	u64 bytes, packets, datagrams;
};

// command is the input of the program control. The kernel takes the first bytes
// for an Ethernet header, so they say nothing.
struct command {
	u8 ethernet[14];
	u16 flags; // enum flow_flag to set: what is to be done
	struct key key;
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, MAX_FLOWS);
	MAP_TYPE(key, struct key);
	MAP_TYPE(value, struct flow);
} flows SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, MAX_FLOWS);
	MAP_TYPE(key, struct key);
	MAP_TYPE(value, struct datagrams);
} datagram_flows SEC(".maps");

// queue holds the keys of flows that have something to be done. Each is in it
// once, so twice the room of the flows is room enough.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_QUEUE);
	MAP_SIZE(max_entries, 2 * MAX_FLOWS);
	MAP_TYPE(value, struct key);
} queue SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct settings);
} settings_of SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct bell);
} bell_of SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct totals);
} totals_of SEC(".maps");

// blank is a flow of zeros, too large for the stack.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_SIZE(value_size, sizeof(struct flow));
} blank SEC(".maps");

// wakeups wakes the acker's thread, which sleeps in epoll_wait on it.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_RINGBUF);
	MAP_SIZE(max_entries, 1 << 16); // whole pages, whatever their size
} wakeups SEC(".maps");

// enqueue hands a flow, marked FLOW_QUEUED by the caller, to the acker. The
// count goes up after the flow is in the queue, and the acker rests only while
// it holds the lock and has seen as many: so it never rests on work.
INLINE void enqueue(const struct key *key, struct totals *t)
{
	u32 index = 0;
	struct bell *b = map_lookup(&bell_of, &index);
	if (!b)
		return;
	if (map_push(&queue, key, BPF_ANY)) {
		t->lost++;
		struct flow *f = map_lookup(&flows, key);
		if (!f)
			return;
		spin_lock(&f->lock); // let the next segment try again
		f->flags &= ~FLOW_QUEUED;
		spin_unlock(&f->lock);
		return;
	}
	spin_lock(&b->lock);
	b->pushed++;
	u32 wake = b->asleep;
	b->asleep = 0;
	spin_unlock(&b->lock);
	// This fails only when the ring is full, and then its reader does not sleep.
	u64 record = 0;
	if (wake)
		ringbuf_output(&wakeups, &record, sizeof(record), BPF_RB_FORCE_WAKEUP);
}

INLINE void take_datagrams(const struct packet *p, struct totals *t)
{
	t->udp_bytes += p->size;
	t->udp_packets++;
	if (p->tail) {
		t->udp_fragments++;
		return;
	}
	t->udp_datagrams += p->pieces;
	struct datagrams *d = map_lookup(&datagram_flows, &p->key);
	if (!d) {
		struct datagrams none = {};
		map_update(&datagram_flows, &p->key, &none, BPF_NOEXIST);
		d = map_lookup(&datagram_flows, &p->key);
		if (!d)
			return;
	}
	__sync_fetch_and_add(&d->bytes, p->size);
	__sync_fetch_and_add(&d->packets, 1);
	__sync_fetch_and_add(&d->datagrams, p->pieces);
}

INLINE void take_syn(const struct packet *p, struct totals *t)
{
	struct flow *f = map_lookup(&flows, &p->key);
	if (!f) {
		u32 index = 0;
		void *none = map_lookup(&blank, &index);
		if (none && !map_update(&flows, &p->key, none, BPF_NOEXIST))
			t->created++;
		f = map_lookup(&flows, &p->key);
		if (!f) {
			t->refused++;
			return;
		}
	}
	u32 opened = 0;
	spin_lock(&f->lock);
	if (f->flags & FLOW_DOOMED) { // the next SYN will find it gone
		spin_unlock(&f->lock);
		return;
	}
	// A repeated SYN has the number of the first.
	if (!f->open || f->isn != p->seq || f->flags & FLOW_CLOSED) {
		flow_open(f, p->seq);
		opened = 1;
	}
	u32 queued = f->flags & FLOW_QUEUED;
	f->flags |= FLOW_SEND_SYN | FLOW_QUEUED;
	spin_unlock(&f->lock);
	t->opened += opened;
	if (!queued)
		enqueue(&p->key, t);
}

INLINE void count_closed(u32 before, u32 now, struct totals *t)
{
	u32 came = now & ~before;
	if (came & FLOW_CLOSED)
		t->closed++;
	if (came & FLOW_RESET_BY_SENDER)
		t->reset_by_sender++;
	if (came & FLOW_RESET_BY_SINK)
		t->reset_by_sink++;
}

INLINE void take_segment(const struct packet *p, struct totals *t)
{
	t->tcp_packets++;
	t->tcp_segments += p->pieces;
	struct flow *f = map_lookup(&flows, &p->key);
	if (!f) {
		t->strays++;
		return;
	}
	spin_lock(&f->lock);
	u32 before = f->flags;
	u64 bytes = f->bytes, duplicates = f->duplicates;
	u64 out_of_order = f->out_of_order, discarded = f->discarded;
	int answer = flow_segment(f, p);
	bytes = f->bytes - bytes;
	duplicates = f->duplicates - duplicates;
	out_of_order = f->out_of_order - out_of_order;
	discarded = f->discarded - discarded;
	u32 now = f->flags;
	if (answer)
		f->flags |= FLOW_QUEUED;
	spin_unlock(&f->lock);
	t->tcp_bytes += bytes;
	t->duplicates += duplicates;
	t->out_of_order += out_of_order;
	t->discarded += discarded;
	count_closed(before, now, t);
	if (answer && !(now & FLOW_QUEUED))
		enqueue(&p->key, t);
}

// take is attached to the ingress of the far device and consumes everything
// that arrives there.
SEC("tc")
int take(struct __sk_buff *skb)
{
	struct packet p = {};
	u32 index = 0;
	struct totals *t = map_lookup(&totals_of, &index);
	if (!t)
		return TC_ACT_STOLEN;
	if (!parse(skb, &p))
		t->other++;
	else if (p.protocol == IPPROTO_UDP)
		take_datagrams(&p, t);
	else if (p.flags & TCP_SYN)
		take_syn(&p, t);
	else
		take_segment(&p, t);
	return TC_ACT_STOLEN;
}

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

// spin waits for work, and without for as long as a run may.
INLINE void spin(struct bell *b, int without)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < SPINS; i++) {
		if (READ_ONCE(b->pushed) != b->popped && !without)
			break;
	}
}

// rest ends a run that found nothing to do: 1 if the acker's thread is to wait
// for a wakeup.
INLINE int rest(struct bell *b)
{
	if (b->idle < IDLE_RUNS) {
		b->idle++;
		return 0;
	}
	spin_lock(&b->lock);
	u32 asleep = b->pushed == b->popped;
	b->asleep = asleep;
	spin_unlock(&b->lock);
	return asleep;
}

// acker is run again and again by the acker's thread, in the far network
// namespace, on a packet of FRAME bytes made for it. Each run answers one flow
// of the queue with a copy of that packet. The sender's TCP takes the copy in
// before the next run begins, on this CPU.
SEC("tc")
int acker(struct __sk_buff *skb)
{
	u32 index = 0;
	struct bell *b = map_lookup(&bell_of, &index);
	struct settings *set = map_lookup(&settings_of, &index);
	struct totals *t = map_lookup(&totals_of, &index);
	if (!b || !set || !t)
		return 1;
	if (READ_ONCE(b->asleep))
		return 1;
	if (b->pause) {
		b->pause--;
		spin(b, 1);
		return 0;
	}
	spin(b, 0);
	struct key key;
	if (READ_ONCE(b->pushed) == b->popped || map_pop(&queue, &key))
		return rest(b);
	b->popped++;
	b->idle = 0;
	if (READ_ONCE(b->pushed) == b->popped)
		b->pause = PAUSE_RUNS;
	struct flow *f = map_lookup(&flows, &key);
	if (!f)
		return 0;
	struct answer a = {};
	u32 window = set->window, scale = set->scale & 15, hold = set->hold;
	spin_lock(&f->lock);
	u32 before = f->flags;
	int send = flow_answer(f, window, scale, hold, &a);
	u32 now = f->flags;
	spin_unlock(&f->lock);
	count_closed(before, now, t);
	if (!send)
		return 0;
	int v4 = !key.src[0] && !key.src[1] && key.src[2] == htonl(0xffff);
	if ((v4 ? write_v4(skb, &a, &key, set) : write_v6(skb, &a, &key, set)) ||
	    clone_redirect(skb, set->device, 0))
		t->lost++;
	else
		t->acks++;
	return 0;
}

// control does to one flow what its input says: dooms it, if it is closed, or
// otherwise sets flags and has it answered, if it is not. It returns 1 if there
// is no such flow.
SEC("tc")
int control(struct __sk_buff *skb)
{
	u32 index = 0;
	struct totals *t = map_lookup(&totals_of, &index);
	struct command *c = (void *)(long)skb->data;
	if (!t || (void *)(c + 1) > (void *)(long)skb->data_end)
		return 1;
	struct key key = c->key;
	u32 set = c->flags & (FLOW_SEND_RST | FLOW_SEND_FIN);
	u32 doom = c->flags & FLOW_DOOMED;
	struct flow *f = map_lookup(&flows, &key);
	if (!f)
		return 1;
	spin_lock(&f->lock);
	u32 flags = f->flags;
	u32 fits = !(flags & FLOW_CLOSED) == !doom;
	if (fits)
		f->flags |= doom ? doom : set | FLOW_QUEUED;
	spin_unlock(&f->lock);
	if (fits && !doom && !(flags & FLOW_QUEUED))
		enqueue(&key, t);
	return !fits;
}

char license_of_file[] SEC("license") = "Apache-2.0";
