// The tier of tracepoints: follows payload from the send call to the door of a
// driver, and on where it stays on this machine, and counts which memory it lies
// in at each place. Nothing here decides; nothing here is counted twice.

#include "flight.h"
#include "sample.h"

char gpl[] SEC("license") = "GPL"; // the helpers that read the kernel ask for it

// flush counts the piece that was gathered.
GLOBAL int flush(struct packet *p, struct socket_state *s, u32 kind)
{
	if (!p || !s || !p->piece.bytes)
		return 0;
	struct piece *piece = &p->piece;
	struct counter_key key = {
		.socket = s->facts.id, .device = p->device, .netns = p->netns, .kind = kind,
		.api = piece->api, .class = piece->class, .was = piece->was,
		.evidence = p->evidence | piece->source,
	};
	if (keep_stacks && (is_copied(piece->class) || key.evidence & SEEN_TAP))
		key.stack = p->stack;
	if (window & 1)
		key.evidence |= SEEN_SAMPLED;
	if (piece->flags & RUN_GSO)
		key.evidence |= SEEN_GSO;
	if (piece->flags & RUN_NO_SO_ZEROCOPY)
		key.evidence |= SEEN_NO_SO_ZEROCOPY;
	if (piece->flags & RUN_ULP)
		key.evidence |= SEEN_ULP;
	if (piece->flags & RUN_OPENING)
		key.evidence |= SEEN_OPENING;
	count(&key, piece->bytes, 0);
	piece->bytes = 0;
	return 0;
}

// gather adds payload to the piece, and counts that first if it is another kind.
INLINE void gather(struct packet *p, struct socket_state *s, u8 kind, u32 bytes, const struct run *run, u8 class, u8 was)
{
	struct piece *piece = &p->piece;
	if (piece->bytes && (piece->api != run->api || piece->class != class || piece->was != was ||
			     piece->source != run->source || piece->flags != run->flags))
		flush(p, s, kind);
	piece->api = run->api;
	piece->class = class;
	piece->was = was;
	piece->source = run->source;
	piece->flags = run->flags;
	piece->bytes += bytes;
}

// note_seen remembers of which kind the payload from seq on is.
INLINE void note_seen(struct socket_state *s, u32 seq, const struct run *asked, u8 class, u8 flags)
{
	struct run *last = &s->seen.at[s->seen.last % RUNS];
	flags |= asked->flags;
	if (last->api == asked->api && last->class == class && last->source == asked->source && last->flags == flags)
		return;
	u32 n = ++s->seen.last;
	s->seen.at[n % RUNS] = (struct run){
		.start = seq, .api = asked->api, .class = class, .source = asked->source, .flags = flags};
}

// share notes how much of a packet is of which API: of two, more are few.
INLINE void share(struct packet *p, const struct run *run, u32 bytes, u32 lent)
{
	if (p->last.api != run->api) {
		if (p->last.lent >= p->other.lent) {
			p->other.api = p->last.api;
			p->other.class = p->last.class;
		}
		p->other.bytes += p->last.bytes;
		p->other.lent += p->last.lent;
		p->last.bytes = p->last.lent = 0;
		p->last.api = run->api;
	}
	p->last.class = run->class;
	p->last.bytes += bytes;
	p->last.lent += lent;
}

// count_part counts part i of a packet, its head or a fragment, as far as it lies
// behind p->from. A function of its own so that the verifier looks at it once,
// and not once for each turn of the loops around it. Linux 5.12.
GLOBAL int count_part(struct packet *p, struct socket_state *s, u32 i)
{
	if (!p || !s)
		return 0;
	u32 n;
	u8 class;
	if (i == 0) {
		n = p->linear;
		class = CLASS_LINEAR;
	} else {
		if (i > MAX_FRAGS)
			return 0;
		u32 at = i - 1;
		HIDE(at);
		n = p->whole ? p->left : p->frag[at % FRAG_ROOM].len;
		class = n ? frag_class(p, at) : 0;
	}
	if (n > p->left)
		n = p->left;
	p->left -= n;
	u32 start = p->at, end = start + n;
	p->at = end;
	if (!n || (s32)(end - p->from) <= 0)
		return 0;
	if ((s32)(start - p->from) < 0)
		start = p->from;
	bool queued = p->kind == KIND_QUEUED;
	struct runs *runs = queued ? &s->asked : &s->seen;
	// A part of several runs: those are told apart by four.
	for (int j = 0; j < 4 && start != end; j++) {
		u32 number = find_run(runs, start), stop = end;
		struct run run = {}; // forgotten: of no API that is known
		if (known(runs, number))
			run = runs->at[number % RUNS];
		if (j < 3 && number != runs->last) {
			u32 next = runs->at[(number + 1) % RUNS].start;
			if ((s32)(next - start) > 0 && (s32)(next - end) < 0)
				stop = next;
		}
		u8 is = class;
		if (queued)
			note_seen(s, start, &run, run.flags & RUN_UNSEEN ? CLASS_UNKNOWN : is, p->gso ? RUN_GSO : 0);
		if (run.flags & RUN_UNSEEN) {
			start = stop;
			continue;
		}
		share(p, &run, stop - start, is_copied(is) ? 0 : stop - start);
		gather(p, s, p->kind, stop - start, &run, is, queued ? is : run.class);
		start = stop;
	}
	return 0;
}

// walk counts the payload of a packet part by part, and returns how much of it
// lies in memory that is not the kernel's. What is below *edge has been counted
// before, and is left out; a datagram has no such edge.
GLOBAL u32 walk(struct packet *p, struct socket_state *s, u32 kind, u32 *edge)
{
	if (!p || !s || !edge)
		return 0;
	u32 end = p->seq + p->payload;
	p->at = p->from = p->seq;
	p->left = p->payload;
	p->last = p->other = (struct share){};
	p->kind = kind;
	p->piece.bytes = 0;
	if (p->protocol == IPPROTO_TCP) {
		if (*edge - p->seq > TURN && p->seq - *edge > TURN) { // by a device that was not used for long
			*edge = p->seq;
			if (kind == KIND_QUEUED)
				restart(&s->seen, p->seq);
		}
		if ((s32)(end - *edge) <= 0) {
			p->from = end;
			return 0;
		}
		if ((s32)(p->seq - *edge) < 0)
			p->from = *edge;
		else if (kind == KIND_QUEUED && p->seq != *edge)
			push_unseen(&s->seen, *edge);
		*edge = end;
		if (kind != KIND_QUEUED && (s32)(end - s->queued) > 0)
			return 0; // it was not seen when it was queued
	}
	// Fragments that are all lent, by one call or by calls alike, are one part.
	struct runs *runs = kind == KIND_QUEUED ? &s->asked : &s->seen;
	p->whole = p->flags & PACKET_PURE && find_run(runs, p->from) == runs->last;
	for (u32 i = 0; i <= MAX_FRAGS; i++) {
		if (i > p->frags || !p->left)
			break;
		count_part(p, s, i);
	}
	if (p->left) { // in a list of packets, or in more fragments than were read
		struct run other = {};
		gather(p, s, kind, p->left, &other, CLASS_UNKNOWN, CLASS_UNKNOWN);
	}
	flush(p, s, kind);
	return p->last.lent + p->other.lent;
}

// ---- the send call

INLINE void ask(struct socket_state *s, struct sock *sk, u32 seq, const struct call *call, u8 api)
{
	struct run *last = &s->asked.at[s->asked.last % RUNS];
	u8 flags = 0;
	if (call->zerocopy && !(READ(sk, __sk_common.skc_flags) >> bit_so_zerocopy & 1))
		flags |= RUN_NO_SO_ZEROCOPY;
	if (s->facts.protocol == IPPROTO_TCP && READ((struct inet_connection_sock *)sk, icsk_ulp_ops))
		flags |= RUN_ULP;
	if (last->api == api && last->source == call->source && (last->flags & ~RUN_OPENING) == flags)
		return;
	u32 n = s->asked.last + (last->api || last->flags || s->asked.last);
	s->asked.at[n % RUNS] = (struct run){.start = seq, .api = api, .source = call->source, .flags = flags};
	s->asked.last = n;
}

// part_calls counts what was accepted by now for no call that is known, where
// calls of two kinds may have had a part in it: nothing told of the end of the
// first.
INLINE void part_calls(struct socket_state *s, u64 sk, u8 api)
{
	struct run *last = &s->asked.at[s->asked.last % RUNS];
	if (!last->api || last->api == api)
		return;
	u32 n = ++s->asked.last;
	s->asked.at[n % RUNS] = (struct run){.start = s->sent};
	catch_up(s, sk);
}

// correct gives a call that is known now the bytes that were counted for the one
// before, when a packet of its left while another task ran.
INLINE void correct(struct socket_state *s, u8 api)
{
	struct run *last = &s->asked.at[s->asked.last % RUNS];
	u64 guessed = s->guessed;
	s->guessed = 0;
	if (!guessed || !last->api || last->api == api || last->flags & RUN_UNSEEN)
		return;
	struct counter_key key = {.socket = s->facts.id, .kind = KIND_SENT, .api = last->api};
	if (window & 1)
		key.evidence = SEEN_SAMPLED;
	struct counter *c = map_lookup(&counters, &key);
	if (!c || c->bytes < guessed) // there was no room to count it
		return;
	__sync_fetch_and_add(&c->bytes, -guessed);
	count_sent(s, KIND_SENT, api, guessed);
}

// send_sock looks who is sending on a TCP socket on kernels without a hook for
// that, from what comes next: its first packet, or the end of the call. What was
// accepted by then and not been counted is from where on it begins.
INLINE struct socket_state *send_sock(u64 key, u32 slot, u32 from)
{
	struct sock *sk = (void *)key;
	struct socket_state *s = map_lookup(&sockets, &key);
	struct call call;
	current_call(&call, key);
	bool mine = call.sure || (slot && !call.kernel); // at the end of a call it is the current process's
	if (!s) {
		if (only_processes && !mine) // the current process may be anyone
			return NULL;
		make_state(key, slot, get_current_pid_tgid() >> 32, 1, from);
		s = map_lookup(&sockets, &key);
		if (!s)
			return NULL;
	}
	if (s->window != window)
		resume(s, key);
	if (!call_ends && call.api)
		part_calls(s, key, call.api);
	if (call.sure) {
		correct(s, call.api);
		ask(s, sk, s->sent, &call, call.api);
	}
	if (mine)
		own(s);
	u32 before = s->sent;
	catch_up(s, key);
	if (call_ends && !call.sure)
		s->guessed += s->sent - before;
	return s;
}

SEC("tp_btf/tcp_sendmsg_locked")
int tcp_sendmsg_locked(u64 *args)
{
	struct sock *sk = (void *)args[0];
	struct msghdr *msg = (void *)args[1];
	struct packet *p = room(1);
	if (!p)
		return 0;
	u64 key = first_argument(args);
	struct socket_state *s = sender(key, 1);
	if (!s)
		return 0;
	u64 caller = get_current_pid_tgid();
	meet(s, key);
	// Each packet of one call comes here.
	if (call_ends && s->caller == caller && s->message == (u64)msg)
		return 0;
	s->caller = caller;
	s->message = (u64)msg;
	struct call call;
	current_call(&call, key);
	u8 api = call.api;
	u32 flags = msg->msg_flags;
	if (api == API_URING_SEND || api == API_URING_ZC) {
		bool fixed = msg->msg_iter.iter_type == iter_bvec;
		api = !READ(msg, msg_ubuf) ? API_URING_SEND : fixed ? API_URING_ZC_FIXED : API_URING_ZC;
		if (flags & MSG_SPLICE_PAGES)
			api = API_SPLICE;
	}
	ask(s, sk, s->sent, &call, api);
	if (!call.kernel)
		own(s);
	return 0;
}

// drop_parts notes that parts of datagrams that have not come to a device will
// not, where the socket has none that is not complete.
INLINE void drop_parts(struct socket_state *s, struct sock *sk)
{
	if (!READ((struct udp_sock *)sk, pending))
		s->queued = s->sent;
}

SEC("tp_btf/sock_send_length")
int sock_send_length(u64 *args)
{
	struct sock *sk = (void *)args[0];
	int sent = (int)args[1];
	struct packet *p = room(1);
	if (!p)
		return 0;
	u64 key = first_argument(args);
	if (no_sends && sk->sk_protocol == IPPROTO_TCP) {
		if (sent > 0)
			send_sock(key, 1, write_seq_of(sk) - sent);
		return 0;
	}
	struct socket_state *s = sender(key, 1);
	if (!s)
		return 0;
	s->caller = 0;
	if (sent <= 0) {
		if (s->facts.protocol != IPPROTO_TCP)
			drop_parts(s, sk);
		return 0;
	}
	if (s->facts.protocol == IPPROTO_TCP) {
		meet(s, key);
		return 0;
	}
	struct call call;
	current_call(&call, key);
	// Which operation it is at work on, a worker of io_uring does not tell: the packet
	// that it has just made did.
	if (!call.sure && call.api == API_URING_SEND && s->asked.at[s->asked.last % RUNS].api == API_URING_ZC)
		call.api = API_URING_ZC;
	ask(s, sk, s->sent, &call, call.api);
	count_sent(s, KIND_SENT, call.api, sent);
	s->sent += sent;
	drop_parts(s, sk);
	if (!call.kernel)
		own(s);
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int io_uring_submit_req(u64 *args)
{
	struct io_kiocb *req = (void *)args[0];
	u32 thread = get_current_pid_tgid(), op = req->opcode;
	switch (op) {
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG:
	case IORING_OP_SPLICE:
	case IORING_OP_SEND_ZC:
	case IORING_OP_SENDMSG_ZC:
		map_update(&submitted, &thread, &op, BPF_ANY);
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int tcp_destroy_sock(u64 *args)
{
	u64 key = first_argument(args);
	struct socket_state *s = map_lookup(&sockets, &key);
	// A connection that was reset while it was open is the one's who closes it. Of others
	// what was sent has been counted; the sequence number now may count a FIN.
	if (!s && map_lookup(&bases, &key) && room(1))
		s = settle_account(key, get_current_pid_tgid() >> 32);
	map_delete(&bases, &key);
	if (!s)
		return 0;
	if (!(s->facts.flags & SOCKET_SHUT))
		own(s);
	close_socket(key, s);
	return 0;
}

// ---- the devices

INLINE bool full_socket(struct sock *sk)
{
	u8 state = sk->__sk_common.skc_state;
	return state != 6 && state != 12; // TCP_TIME_WAIT, TCP_NEW_SYN_RECV: not a struct sock
}

// await notes that a datagram is queued, and, if the one before has not come to the
// door yet, puts down what that was: queues may hold many, of several APIs.
INLINE void await(struct packet *p, struct socket_state *s)
{
	if (s->waiting && s->waiting != p->id) {
		struct flight *f = place_for(s->waiting, p->events);
		if (f)
			*f = (struct flight){
				.packet = s->waiting, .id = s->facts.id, .mark = s->waiting_mark, .payload = s->waiting_payload,
				.datagram = 1, .device = s->waiting_device, .queued = 1, .at = s->waiting_at};
	}
	s->waiting = p->id;
	s->waiting_at = p->seq;
	s->waiting_payload = p->payload;
	s->waiting_mark = p->mark;
	s->waiting_device = p->device;
}

// number_datagram finds the number of a datagram at a driver's door, and returns the
// first device that it was queued on.
INLINE u32 number_datagram(struct packet *p, struct socket_state *s)
{
	if (s->waiting == p->id) {
		s->waiting = 0;
		p->seq = s->waiting_at;
		return s->waiting_device;
	}
	p->seq = s->queued - p->payload; // a piece of one: it was the last to be queued
	struct flight *f = find_flight(p->id);
	if (!f || f->id != s->facts.id || !f->datagram || f->mark != p->mark)
		return s->device;
	p->seq = f->at;
	if (f->queued)
		f->packet = 0;
	return f->device;
}

// passed_on is what makes a device copy the payload of a packet that another device, or
// a tunnel, hands it: as device_evidence, for this packet.
INLINE u32 passed_on(struct sk_buff *skb, struct net_device *dev, u32 evidence)
{
	if (!skb->data_len)
		return 0;
	u32 seen = device_evidence(dev, skb->protocol == ETH_P_IPV6) & (SEEN_NO_SG | SEEN_NO_CSUM);
	if (BITFIELD(skb, ip_summed) != 3) // CHECKSUM_PARTIAL
		seen &= ~SEEN_NO_CSUM;
	struct skb_shared_info *shared = (void *)((u64)skb->head + skb->end);
	if (READ(shared, gso_size))
		seen |= SEEN_GSO;
	if (evidence & SEEN_LENT && READ(shared, flags) & SKBFL_ZEROCOPY_ENABLE && device_tapped((u64)READ(skb, dev), 1))
		seen |= SEEN_TAP_OUT;
	return seen;
}

SEC("tp_btf/net_dev_queue")
int net_dev_queue(u64 *args)
{
	struct sk_buff *skb = (void *)args[0];
	struct sock *sk = skb->sk;
	struct net_device *dev = skb->dev;
	u32 device = dev->ifindex;
	struct flight *f = flight_of(skb);
	if (f && !sk && !f->queued) { // forwarded, or handed down by a tunnel
		u32 seen = passed_on(skb, dev, f->evidence);
		f->met = MET_QUEUE >> 16;
		if (seen & ~SEEN_GSO)
			note_device((u64)READ(skb, dev));
		count_flight(args, f, device, netns_of(dev), MET_QUEUE | seen, class_now(f, skb), 0);
		if (seen & (SEEN_NO_SG | SEEN_NO_CSUM))
			f->packet = 0; // all of it is copied there
		else if (seen & SEEN_TAP_OUT)
			f->evidence |= SEEN_TAP;
		return 0;
	}
	if (!sk || !full_socket(sk))
		return 0;
	u16 family = sk->__sk_common.skc_family, protocol = sk->sk_protocol;
	if ((family != AF_INET && family != AF_INET6) || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return 0;
	struct packet *p = room(0);
	if (!p || !read_packet(p, skb, dev, protocol))
		return 0;
	// On its way down from a device that stands on this one.
	if (f && f->sock == (u64)sk && f->seq == p->number && f->payload == p->payload && f->device != device)
		return 0;
	struct socket_state *s;
	u64 key = number_of(p, sk);
	u32 none = 0, *edge = &none;
	if (protocol == IPPROTO_UDP) {
		s = sender(key, 0);
		if (!s)
			return 0;
		struct call call;
		current_call(&call, key);
		if (call.api == API_URING_SEND || call.api == API_URING_ZC)
			call.api = p->evidence & SEEN_LENT ? API_URING_ZC : call.api;
		s->window = window;
		if (call_ends && call.api)
			drop_parts(s, sk);
		// The bytes of earlier calls, for which the datagram has waited, come first.
		if (!call.api || (s32)(s->sent - s->queued) > 0)
			p->evidence |= SEEN_CORKED;
		if (call.api || !call_ends)
			ask(s, sk, call_ends ? s->sent : s->queued, &call, call.api);
		p->seq = s->queued;
		s->queued += p->payload;
		await(p, s);
		if (!call_ends)
			count_sent(s, KIND_SENT, call.api, p->payload);
	} else {
		bool opens = sk->__sk_common.skc_state == TCP_SYN_SENT; // before the other hook is met
		if (no_sends || opens)
			s = send_sock(key, 0, p->seq);
		else
			s = map_lookup(&sockets, &key);
		if (!s)
			return 0;
		if (opens)
			s->asked.at[s->asked.last % RUNS].flags |= RUN_OPENING;
		if (s->window != window)
			resume(s, key);
		edge = &s->queued;
		if ((s32)(p->seq + p->payload - s->queued) <= 0) {
			u32 number = find_run(&s->asked, p->seq);
			struct counter_key again = {.socket = s->facts.id, .device = device, .netns = p->netns, .kind = KIND_AGAIN};
			if (known(&s->asked, number))
				again.api = s->asked.at[number % RUNS].api;
			if (window & 1)
				again.evidence = SEEN_SAMPLED;
			count(&again, p->payload, 0);
			if (!s->device)
				s->device = device;
			return 0;
		}
	}
	if (only_device && device != only_device)
		return 0;
	if (s->device != device)
		note_device(number_of(p, dev));
	s->device = device;
	u32 keep = p->evidence;
	if (protocol == IPPROTO_TCP)
		keep &= ~SEEN_PARTIAL; // TCP leaves it to the device always
	p->evidence = keep | device_evidence(dev, p->flags & PACKET_V6);
	p->stack = keep_stack(args);
	walk(p, s, KIND_QUEUED, edge);
	return 0;
}

// take_off remembers a packet that leaves, if anything may become of it that
// matters: not one that was copied, where a real device takes it, or a stack of
// this machine without a program that would copy it again.
GLOBAL int take_off(struct packet *p, struct socket_state *s, u64 device, u64 sk, u32 lent)
{
	struct net_device *dev = (void *)device;
	u32 counted = p ? p->last.bytes + p->other.bytes : 0;
	if (!p || !s || (!counted && window))
		return 0;
	if (!lent && !READ(dev, xdp_prog) && (p->evidence & SEEN_LOOPBACK || !READ(dev, rtnl_link_ops)))
		return 0;
	struct flight *f = place_for(p->id, p->events);
	if (!f)
		return 0;
	lose_flight(f);
	*f = (struct flight){
		.packet = p->id, .sock = sk, .id = s->facts.id, .seq = p->number, .mark = p->mark,
		.datagram = p->protocol == IPPROTO_UDP, .payload = p->payload, .bytes = counted, .lent_bytes = lent,
		.device = p->device, .netns = p->netns,
		.evidence = p->evidence & (SEEN_LENT | SEEN_TAP | SEEN_LOOPBACK | SEEN_STAMP), .api = p->last.api, .class = p->last.class,
		.other_bytes = p->other.bytes, .other_lent = p->other.lent, .other_api = p->other.api, .other_class = p->other.class,
		.at = p->seq};
	if (!lent)
		f->class = p->data_len ? CLASS_KERNEL : CLASS_LINEAR;
	if (window & 1)
		f->evidence |= SEEN_SAMPLED;
	LOSE(flights_in);
	return 0;
}

SEC("tp_btf/net_dev_start_xmit")
int net_dev_start_xmit(u64 *args)
{
	struct sk_buff *skb = (void *)args[0];
	struct net_device *dev = (void *)args[1];
	struct sock *sk = skb->sk;
	u64 key = (u64)sk;
	if (!sk)
		return 0;
	struct socket_state *s = map_lookup(&sockets, &key);
	if (!s || s->window != window) // it was queued before the window
		return 0;
	struct packet *p = room(0);
	if (!p || !read_packet(p, skb, dev, s->facts.protocol))
		return 0;
	p->evidence |= device_evidence(dev, p->flags & PACKET_V6);
	if (p->evidence & SEEN_LENT && device_tapped(number_of(p, dev), 1))
		p->evidence |= SEEN_TAP;
	if (p->evidence & SEEN_LENT && stamped(p, number_of(p, sk)))
		p->evidence |= SEEN_STAMP;
	p->stack = keep_stack(args);
	u32 first = s->device;
	if (p->protocol == IPPROTO_UDP)
		first = number_datagram(p, s);
	if (p->device == first) {
		u32 lent = walk(p, s, KIND_DOOR, &s->door);
		take_off(p, s, number_of(p, dev), number_of(p, sk), lent);
		return 0;
	}
	struct lower_key below = {.socket = s->facts.id, .device = p->device, .netns = p->netns};
	u32 *edge = map_lookup(&lower, &below);
	if (!edge) {
		u32 start = p->seq;
		note_device(number_of(p, dev));
		map_update(&lower, &below, &start, BPF_ANY);
		edge = map_lookup(&lower, &below);
		if (!edge)
			return 0;
	}
	u32 lent = walk(p, s, KIND_LOWER, edge);
	struct flight *f = find_flight(p->id);
	if (!f || f->id != s->facts.id || f->mark != p->mark)
		take_off(p, s, number_of(p, dev), number_of(p, sk), lent); // a segment of what came from above
	else if (!p->data_len)
		f->lent_bytes = f->other_lent = 0;
	return 0;
}

SEC("tp_btf/sched_process_fork")
int sched_process_fork(u64 *args)
{
	struct task_struct *child = (void *)args[1];
	u32 parent = get_current_pid_tgid() >> 32, tgid = child->tgid;
	if (!only_processes)
		return 0;
	if (map_lookup(&processes, &parent))
		map_update(&processes, &tgid, &parent, BPF_ANY);
	else // the id was that of one who has ended
		map_delete(&processes, &tgid);
	return 0;
}
