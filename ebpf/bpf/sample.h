// What is known of TCP sockets while nobody looks at what they send: how much it
// is, from the hooks that each connection passes few times, and from looking
// through all of them now and then.
#pragma once

#include "socket.h"

#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define S_IFSOCK 0140000

INLINE void note_base(struct sock *sk, u32 tgid, const char *comm)
{
	u64 key = (u64)sk;
	if (map_lookup(&sockets, &key))
		return;
	struct base *known = map_lookup(&bases, &key);
	if (known) {
		if (!known->tgid && comm) { // who has it could not be told when it was made
			known->tgid = tgid;
			probe_read_kernel(known->comm, sizeof(known->comm), comm);
		}
		return;
	}
	struct base base = {.acked = acked_of(sk), .seq = write_seq_of(sk), .tgid = tgid};
	if (comm)
		probe_read_kernel(base.comm, sizeof(base.comm), comm);
	if (map_update(&bases, &key, &base, BPF_NOEXIST))
		LOSE(bases);
}

// settle_account counts what a socket has accepted up to now, and adopts it if it
// was never met.
INLINE struct socket_state *settle_account(u64 key, u32 tgid)
{
	struct sock *sk = (void *)key;
	struct socket_state *s = map_lookup(&sockets, &key);
	if (!s) {
		struct base *base = map_lookup(&bases, &key);
		if (!base || base->seq == write_seq_of(sk))
			return NULL;
		return adopt(key, 1, tgid);
	}
	if (s->facts.protocol != IPPROTO_TCP || s->facts.flags & SOCKET_SHUT)
		return NULL;
	meet(s, key);
	return s;
}

// The state changes before a FIN takes a sequence number, and where a process
// closes the socket, in its own context.
SEC("tp_btf/inet_sock_set_state")
int inet_sock_set_state(u64 *args)
{
	struct sock *sk = (void *)args[0];
	u32 was = args[1], is = args[2];
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	u64 key = first_argument(args);
	if (is == TCP_ESTABLISHED) {
		map_delete(&bases, &key); // of a connection before
		note_base(sk, 0, NULL);
		return 0;
	}
	if ((was != TCP_ESTABLISHED && was != TCP_CLOSE_WAIT) || is == TCP_CLOSE_WAIT)
		return 0;
	// A peer's reset, and a timeout, come in anyone's context.
	bool mine = is != TCP_CLOSE || !READ(sk, sk_err);
	struct base *base = map_lookup(&bases, &key);
	if (!mine && base && !base->tgid)
		return 0; // who has it closes it, see tcp_destroy_sock
	struct packet *p = room(1);
	if (!p)
		return 0;
	u32 tgid = get_current_pid_tgid() >> 32;
	struct socket_state *s = settle_account(key, tgid);
	if (mine)
		map_delete(&bases, &key);
	if (!s)
		return 0;
	s->facts.flags |= SOCKET_SHUT;
	if (mine)
		own(s);
	return 0;
}

SEC("iter/task_file")
int known_files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;
	if (!file || !task || (READ(file, f_inode->i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	struct socket *socket = READ(file, private_data);
	struct sock *sk = socket ? READ(socket, sk) : NULL;
	if (!sk)
		return 0;
	u16 family = READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) || READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	u8 state = 0;
	probe_read_kernel(&state, 1, (void *)&sk->__sk_common.skc_state);
	u64 key = (u64)sk;
	bool reset = state == TCP_CLOSE && map_lookup(&bases, &key);
	if (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT || reset)
		note_base(sk, READ(task, tgid), task->comm);
	return 0;
}

INLINE int settle_key(struct bpf_iter__bpf_map_elem *ctx)
{
	u64 *key = ctx->key;
	if (key)
		settle_account(*key, 0);
	return 0;
}

SEC("iter/bpf_map_elem")
int settle_sockets(struct bpf_iter__bpf_map_elem *ctx)
{
	return settle_key(ctx);
}

SEC("iter/bpf_map_elem")
int settle_bases(struct bpf_iter__bpf_map_elem *ctx)
{
	return settle_key(ctx);
}

// take_flights tells of the packets under way of which it is not decided whether
// they will be copied, and forgets all.
SEC("iter/bpf_map_elem")
int take_flights(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flight_bucket *near = ctx->value;
	if (!near)
		return 0;
	void *seq = ctx->meta->seq;
#pragma unroll
	for (int i = 0; i < FLIGHT_WAYS; i++) {
		struct flight *f = &near->way[i];
		if (f->packet && f->lent_bytes && f->evidence & SEEN_LENT && seq_write(seq, f, sizeof(*f)))
			return 0; // there was no room: all of the bucket comes again
	}
#pragma unroll
	for (int i = 0; i < FLIGHT_WAYS; i++) {
		if (near->way[i].packet)
			near->way[i].packet = 0;
	}
	return 0;
}
