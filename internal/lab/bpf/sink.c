// The far end of a veth pair that takes everything and keeps nothing. Payload
// is never read: packets are freed where they arrive, at tc ingress, so that no
// copy is made of the pages that a zero-copy send refers to. TCP is answered
// with packets made from nothing: the one that arrives cannot be turned into
// its own answer, for it shares the sender's pages, and both trimming it and
// sending it back into an IP stack copy them.
//
// Linux 5.10 is enough: no atomic operation returns a value, no helper is
// younger, and the few loops have constant bounds.

#include "answer.h"

#define MAX_FLOWS 16384 // of each kind; the loader sets another number

// LOOKS is how often a run of the acker looks for work: for a microsecond or two.
#define LOOKS 64

// GATHER_NS is how long new work gathers after the queue has run empty, as behind
// a network card that holds back its interrupts. An ACK for each packet of 64 KiB
// costs a bulk sender a quarter of its speed, in contention for the socket and
// for the queue.
#define GATHER_NS 5000

// AWAKE_NS is how long the acker looks for work after the last. Waking it costs
// the sender two microseconds.
#define AWAKE_NS 50000

// bell is how those who queue a flow wake the acker.
struct bell {
	struct bpf_spin_lock lock; // of pushed and asleep
	u32 pushed;                // flows put into the queue
	u32 asleep;                // the acker waits for a wakeup
	u32 not_used[13];
	// The acker's own, on a cache line of its own:
	u32 popped; // flows taken from the queue
	u64 empty;  // when the queue last ran empty; CLOCK_MONOTONIC
};

// totals are counted by each CPU for itself. Those that the acker counts too are
// counted with COUNT, since take may interrupt it.
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

#define COUNT(counter) __sync_fetch_and_add(&(counter), 1)

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
		COUNT(t->lost);
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
		COUNT(t->closed);
	if (came & FLOW_RESET_BY_SENDER)
		COUNT(t->reset_by_sender);
	if (came & FLOW_RESET_BY_SINK)
		COUNT(t->reset_by_sink);
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

// rest reports whether the acker's thread is to wait for a wakeup.
INLINE int rest(struct bell *b)
{
	spin_lock(&b->lock);
	u32 asleep = b->pushed == b->popped;
	b->asleep = asleep;
	spin_unlock(&b->lock);
	return asleep;
}

// look reports whether there is work that has had the time to gather. Otherwise
// *resting says whether there has been none for so long that the acker rests.
INLINE int look(struct bell *b, int *resting)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < LOOKS; i++) {
		u64 past = ktime_get_ns() - b->empty;
		if (READ_ONCE(b->pushed) != b->popped) {
			if (past >= GATHER_NS)
				return 1;
		} else if (past >= AWAKE_NS) {
			*resting = rest(b);
			return 0;
		}
	}
	return 0;
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
	int resting = 0;
	struct key key;
	if (!look(b, &resting) || map_pop(&queue, &key))
		return resting;
	b->popped++;
	if (READ_ONCE(b->pushed) == b->popped)
		b->empty = ktime_get_ns();
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
		COUNT(t->lost);
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
