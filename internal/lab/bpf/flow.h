// A TCP connection as the sink knows it, and what an arriving segment does to
// it. Everything here runs under the flow's lock, so it calls nothing.
#pragma once
#include "wire.h"

// SINK_ISN is the sink's initial sequence number. It sends no data, so its
// whole sequence space is the SYN and the FIN.
#define SINK_ISN 0x10000000u

// SYN_WINDOW is the largest window of a SYN-ACK, where it is not scaled.
#define SYN_WINDOW 65535u

// RANGES is how many holes one flow may have open. Segments of one socket are
// reordered only when it sends from two CPUs at a time, its own thread and the
// one that takes in an ACK, and that leaves one hole, or two.
#define RANGES 8

// PATIENCE is how many segments after a hole are taken in silence. Those that
// follow are answered at once, so that three duplicate ACKs make the sender
// repeat what is missing. A receiver that told of every hole at once would draw
// needless retransmissions, because here holes close by themselves.
#define PATIENCE 32

// What is known about a flow, and what is to be done for it.
enum flow_flag {
	FLOW_QUEUED = 1 << 0,          // its key is in the queue
	FLOW_SEND_SYN = 1 << 1,        // answer the SYN
	FLOW_SEND_RST = 1 << 2,        // reset the connection
	FLOW_SEND_FIN = 1 << 3,        // the sink has no more to say; stays set
	FLOW_FIN_SENT = 1 << 4,        // and has said so
	FLOW_FIN_ACKED = 1 << 5,       // and was heard
	FLOW_FIN_SEEN = 1 << 6,        // the sender's last byte is known
	FLOW_FIN_RECEIVED = 1 << 7,    // and everything up to it has arrived
	FLOW_CLOSED = 1 << 8,          // by FIN or RST
	FLOW_RESET_BY_SENDER = 1 << 9,
	FLOW_RESET_BY_SINK = 1 << 10,
	FLOW_DOOMED = 1 << 11,         // about to be deleted, so a SYN must not open it
};

// range is bytes that arrived after a hole: from start up to end. It is not in
// use if the two are the same.
struct range {
	u32 start, end;
};

struct flow {
	struct bpf_spin_lock lock;
	enum flow_flag flags;
	u32 isn;             // the sender's
	u32 next;            // the byte that is waited for
	u32 edge;            // the first byte beyond the window that was offered
	u32 fin;             // the sequence number of the sender's FIN, once seen
	u32 late;            // segments taken in since next last moved
	u32 open;            // times this entry was opened, by a SYN
	struct range ranges[RANGES]; // apart from each other and from next
	u64 bytes;           // in order, each once
	u64 packets;         // with payload or without, as they arrived
	u64 segments;        // as they would be on a wire
	u64 acks;            // sent by the sink
	u64 duplicates;      // segments with nothing new
	u64 duplicate_bytes;
	u64 out_of_order;    // segments behind a hole
	u64 discarded;       // beyond the window, or one hole too many
};

INLINE int after(u32 a, u32 b) { return (s32)(a - b) > 0; }

// open starts a connection, in an entry that may have held another.
INLINE void flow_open(struct flow *f, u32 isn)
{
	f->flags = f->flags & FLOW_QUEUED;
	f->isn = isn;
	f->next = isn + 1;
	f->edge = isn + 1;
	f->fin = 0;
	f->late = 0;
	f->open++;
#pragma clang loop unroll(disable)
	for (int i = 0; i < RANGES; i++)
		f->ranges[i].start = f->ranges[i].end = 0;
	f->bytes = f->packets = f->segments = f->acks = 0;
	f->duplicates = f->duplicate_bytes = f->out_of_order = f->discarded = 0;
}

// keep remembers bytes behind a hole, and reports whether it could. Ranges that
// touch become one, so those that are left never touch.
INLINE int keep(struct flow *f, u32 start, u32 end)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < RANGES; i++) {
		struct range *r = &f->ranges[i];
		if (r->start == r->end || after(start, r->end) || after(r->start, end))
			continue;
		if (after(start, r->start))
			start = r->start;
		if (after(r->end, end))
			end = r->end;
		r->start = r->end = 0;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < RANGES; i++) {
		struct range *r = &f->ranges[i];
		if (r->start != r->end)
			continue;
		r->start = start;
		r->end = end;
		return 1;
	}
	return 0;
}

// advance moves next to end, and on over what was kept behind it.
INLINE void advance(struct flow *f, u32 end)
{
	u32 from = f->next;
#pragma clang loop unroll(disable)
	for (int i = 0; i < RANGES; i++) {
		struct range *r = &f->ranges[i];
		if (r->start == r->end || after(r->start, end))
			continue;
		if (after(r->end, end))
			end = r->end;
		r->start = r->end = 0;
	}
	f->bytes += end - from;
	f->next = end;
	f->late = 0;
}

// receive takes in a segment of an open connection and reports whether it must
// be answered.
INLINE int receive(struct flow *f, const struct packet *p)
{
	u32 fin = p->flags & TCP_FIN ? 1 : 0;
	u32 end = p->seq + p->size;

	if (!p->size && !fin) // an ACK, unless it asks for one: keepalive, window probe
		return p->seq != f->next;
	if (after(end, f->edge)) {
		f->discarded++;
		return 1;
	}
	if (!after(end + fin, f->next)) {
		f->duplicates++;
		f->duplicate_bytes += p->size;
		return 1;
	}
	if (fin) {
		f->fin = end;
		f->flags |= FLOW_FIN_SEEN;
	}
	if (after(p->seq, f->next)) {
		f->out_of_order++;
		f->late++;
		if (p->size && !keep(f, p->seq, end))
			f->discarded++;
		return f->late > PATIENCE;
	}
	if (after(end, f->next))
		advance(f, end);
	if (f->flags & FLOW_FIN_SEEN && f->next == f->fin) {
		f->next++;
		f->flags |= FLOW_FIN_RECEIVED | FLOW_SEND_FIN;
	}
	return 1;
}

// flow_segment takes in any segment but a SYN and reports whether it must be
// answered.
INLINE int flow_segment(struct flow *f, const struct packet *p)
{
	int says = p->size || p->flags & TCP_FIN; // more than an ACK does

	f->packets++;
	f->segments += p->pieces;
	if (p->flags & TCP_RST) {
		if (!(f->flags & FLOW_CLOSED))
			f->flags |= FLOW_CLOSED | FLOW_RESET_BY_SENDER;
		return 0;
	}
	if (f->flags & FLOW_RESET_BY_SINK) { // the RST may have been lost
		if (says)
			f->flags |= FLOW_SEND_RST;
		return says;
	}
	if (f->flags & FLOW_CLOSED) // the last ACK may have been lost
		return says;
	if (f->flags & FLOW_FIN_SENT && p->flags & TCP_ACK && p->ack == SINK_ISN + 2)
		f->flags |= FLOW_FIN_ACKED;
	int answer = receive(f, p);
	if (!answer && f->flags & FLOW_FIN_ACKED && f->flags & FLOW_FIN_RECEIVED)
		f->flags |= FLOW_CLOSED;
	return answer;
}

// answer is a segment that the sink is about to send.
struct answer {
	u32 seq, ack;
	u16 window;
	u8 flags;
};

// flow_window moves the edge to what the sink can take from here on, unless it
// holds: then the edge stays, and the window shrinks with what arrives, to 0. It
// returns the window in units of the scale, rounded up as a receiver must that
// does not take back what it offered; the edge moves with the rounding.
INLINE u16 flow_window(struct flow *f, u32 window, u32 scale, u32 hold)
{
	if (!hold && after(f->next + window, f->edge))
		f->edge = f->next + window;
	u32 room = after(f->edge, f->next) ? f->edge - f->next : 0;
	u32 units = (room + (1u << scale) - 1) >> scale;
	if (units > 65535)
		units = 65535;
	f->edge = f->next + (units << scale);
	return units;
}

// flow_answer turns what is to be done for a flow into one segment. It reports
// whether there is one to send.
INLINE int flow_answer(struct flow *f, u32 window, u32 scale, u32 hold, struct answer *a)
{
	u32 flags = f->flags;

	f->flags = flags & ~(FLOW_QUEUED | FLOW_SEND_SYN | FLOW_SEND_RST);
	a->seq = SINK_ISN + 1 + (flags & FLOW_FIN_ACKED ? 1 : 0);
	a->ack = f->next;
	a->flags = TCP_ACK;
	a->window = 0;
	f->acks++;
	if (flags & FLOW_SEND_RST) {
		a->seq = SINK_ISN + 1 + (flags & FLOW_FIN_SENT ? 1 : 0);
		a->flags |= TCP_RST;
		f->flags |= FLOW_CLOSED | FLOW_RESET_BY_SINK;
		return 1;
	}
	if (flags & (FLOW_RESET_BY_SENDER | FLOW_RESET_BY_SINK)) {
		f->acks--;
		return 0;
	}
	if (flags & FLOW_SEND_SYN) {
		a->seq = SINK_ISN;
		a->flags |= TCP_SYN;
		a->window = window < SYN_WINDOW ? window : SYN_WINDOW;
		f->edge = f->next + a->window;
		return 1;
	}
	a->window = flow_window(f, window, scale, hold);
	if (flags & FLOW_SEND_FIN && !(flags & FLOW_FIN_ACKED)) {
		a->flags |= TCP_FIN;
		f->flags |= FLOW_FIN_SENT;
	}
	if (flags & FLOW_FIN_ACKED && flags & FLOW_FIN_RECEIVED)
		f->flags |= FLOW_CLOSED;
	return 1;
}
