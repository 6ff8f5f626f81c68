// Sockets: who they belong to, and by which call the application sends.
#pragma once

#include "functions.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define AF_INET 2
#define AF_INET6 10
#define MSG_ZEROCOPY 0x4000000
#define MSG_SPLICE_PAGES 0x8000000 // Linux 6.5
#define PF_IO_WORKER 0x10
#define PF_KTHREAD 0x200000
#define NETIF_F_SG (1 << 0)
#define NETIF_F_IP_CSUM (1 << 1)
#define NETIF_F_HW_CSUM (1 << 3)
#define NETIF_F_IPV6_CSUM (1 << 4)
#define IFF_LOOPBACK 8
#define TMPFS_MAGIC 0x01021994
#define THREAD_SIZE 16384 // with pages of 4 KiB and without KASAN
#if defined(__TARGET_ARCH_arm64)
#define O_DIRECT 0200000
#else
#define O_DIRECT 040000
#endif

INLINE struct pt_regs *registers_of(u64 task)
{
	if (has_task_regs)
		return task_pt_regs(get_current_task_btf());
	struct pt_regs *size = NULL;
	u64 stack = (u64)READ((struct task_struct___functions *)task, stack);
	return (void *)(stack + THREAD_SIZE - __builtin_preserve_type_info(*size, 1));
}

INLINE struct file *file_of(u64 task, u64 fd)
{
	struct files_struct *files = READ((struct task_struct *)task, files);
	struct fdtable *table = READ(files, fdt);
	if ((u32)fd >= READ(table, max_fds))
		return NULL;
	struct file **at = READ(table, fd) + (u32)fd;
	struct file *file = NULL;
	probe_read_kernel(&file, sizeof(file), at);
	return file;
}

INLINE u64 magic_of(struct file *file)
{
	struct inode *inode = READ(file, f_inode);
	struct super_block *block = READ(inode, i_sb);
	return READ(block, s_magic);
}

INLINE bool is_socket(u64 task, u64 fd, u64 sk)
{
	struct file *file = file_of(task, fd);
	if (!file)
		return 0;
	struct socket *socket = READ(file, private_data);
	return socket && (u64)READ(socket, sk) == sk;
}

// pipe_source tells where the pages at the outlet of a pipe are from, by the
// functions that look after them.
LOCAL u32 pipe_source(struct pipe_inode_info *pipe)
{
	u32 size = READ(pipe, ring_size);
	struct pipe_buffer *buffer = READ(pipe, bufs);
	if (!pipe || !size || !buffer)
		return 0;
	// The compiler must not assume the size of the kernel's structure.
	u64 stride = __builtin_preserve_type_info(*buffer, 1);
	buffer = (void *)buffer + (READ(pipe, tail) & (size - 1)) * stride;
	struct pipe_buf_operations *ops = READ(buffer, ops);
	if (!ops)
		return 0;
	u64 confirm = (u64)READ(ops, confirm), release = (u64)READ(ops, release), steal = (u64)READ(ops, try_steal);
	if (confirm && confirm == code_cache_confirm)
		return FROM_CACHE;
	if (steal && steal == code_user_steal)
		return FROM_USER;
	if (release && release == code_written_release)
		return FROM_WRITTEN;
	if (release && release == code_generic_release)
		return steal == 0 ? FROM_SOCKET : steal == code_generic_steal ? FROM_READ : 0;
	return 0;
}

// message_call is what the message alone tells: of io_uring's sends.
INLINE u8 uring_call(struct msghdr *msg, u32 flags)
{
	if (flags & MSG_SPLICE_PAGES || !msg)
		return CALLED_SPLICE;
	if (!FIELD_EXISTS(msg->msg_ubuf) || !READ(msg, msg_ubuf))
		return CALLED_URING_SEND;
	return READ(msg, msg_iter.iter_type) == iter_bvec ? CALLED_URING_ZC_FIXED : CALLED_URING_ZC;
}

// current_call tells by which call the current task sends on sk: a descriptor
// among the arguments has to be that socket. Where sk is not, the task may be at
// work for io_uring. msg is NULL where pages are handed over one by one.
LOCAL int current_call(struct calling *call, u64 sk, struct msghdr *msg)
{
	u64 task = get_current_task();
	u32 process = READ((struct task_struct *)task, flags), flags = msg ? READ(msg, msg_flags) : 0;
	call->sock = sk;
	call->api = call->source = call->flags = 0;
	if (process & PF_IO_WORKER) {
		call->api = uring_call(msg, flags);
		return 1;
	}
	if (process & PF_KTHREAD)
		return 0;
	struct pt_regs *regs = registers_of(task);
#if defined(__TARGET_ARCH_x86)
	u32 nr = READ(regs, orig_ax);
	u64 first = READ(regs, di), second = READ(regs, si), third = READ(regs, dx);
#else
	u32 nr = READ(regs, syscallno);
	u64 first = READ(regs, orig_x0), second = READ(regs, regs[1]), third = READ(regs, regs[2]);
#endif
	if (!is_socket(task, nr == NR_SPLICE ? third : first, sk)) {
		if (READ((struct task_struct *)task, io_uring))
			call->api = uring_call(msg, flags);
		return call->api != 0;
	}
	struct file *in;
	switch (nr) {
	case NR_WRITE:
	case NR_SENDTO:
		call->api = CALLED_WRITE;
		break;
	case NR_WRITEV:
	case NR_PWRITEV2:
	case NR_SENDMSG:
	case NR_SENDMMSG:
		call->api = CALLED_WRITEV;
		break;
	case NR_SENDFILE:
		call->api = CALLED_SENDFILE;
		call->source = pipe_source(READ((struct task_struct *)task, splice_pipe));
		in = file_of(task, second);
		if (call->source == FROM_READ && in && READ(in, f_flags) & O_DIRECT)
			call->source = magic_of(in) == TMPFS_MAGIC ? FROM_MEMORY : FROM_DIRECT;
		return 1;
	case NR_SPLICE:
		in = file_of(task, first);
		call->api = CALLED_SPLICE;
		if (in)
			call->source = pipe_source(READ(in, private_data));
		if (call->source == FROM_USER)
			call->api = CALLED_VMSPLICE;
		return 1;
	default:
		if (READ((struct task_struct *)task, io_uring))
			call->api = uring_call(msg, flags);
		return call->api != 0;
	}
	if (flags & MSG_ZEROCOPY)
		call->api = CALLED_ZEROCOPY;
	return 1;
}

INLINE u64 cgroup_of(struct sock *sk)
{
	struct cgroup *cgroup;
	if (FIELD_EXISTS(sk->sk_cgrp_data.cgroup)) {
		cgroup = READ(sk, sk_cgrp_data.cgroup);
	} else {
		u64 old = 0; // a union until Linux 5.14
		probe_read_kernel(&old, sizeof(old), &sk->sk_cgrp_data);
		if (old & 1)
			return 0; // of another hierarchy
		cgroup = (void *)(old & ~3ull);
	}
	struct kernfs_node *node = READ(cgroup, kn);
	return READ(node, id);
}

INLINE u64 inode_of(struct sock *sk)
{
	struct socket *socket = READ(sk, sk_socket);
	struct file *file = READ(socket, file);
	struct inode *inode = READ(file, f_inode);
	return READ(inode, i_ino);
}

INLINE u32 namespace_of(struct net *net)
{
	return READ(net, ns.inum);
}

INLINE void describe(struct owner *o, struct sock *sk)
{
	o->inode = inode_of(sk);
	o->cgroup = cgroup_of(sk);
	o->netns = namespace_of(READ(sk, __sk_common.skc_net.net));
	o->uid = READ(sk, sk_uid.val);
	o->family = READ(sk, __sk_common.skc_family);
	o->protocol = READ(sk, sk_protocol);
	o->type = READ(sk, sk_type);
	o->local_port = READ(sk, __sk_common.skc_num);
	o->remote_port = __builtin_bswap16(READ(sk, __sk_common.skc_dport));
	if (o->family == AF_INET6) {
		probe_read_kernel(o->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		probe_read_kernel(o->remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		*(u32 *)o->local = READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)o->remote = READ(sk, __sk_common.skc_daddr);
	}
}

INLINE void own(struct sender_state *s)
{
	if (s->owner.tgid)
		return;
	s->owner.tgid = get_current_pid_tgid() >> 32;
	get_current_comm(s->owner.comm, sizeof(s->owner.comm));
}

INLINE u32 written_by(struct sock *sk)
{
	return READ((struct tcp_sock___functions *)sk, write_seq);
}

// fold is an address in 32 bits.
INLINE u32 fold(const u32 *address)
{
	return address[0] ^ address[1] ^ address[2] ^ address[3];
}

// note_tuple makes a connected socket known by its addresses.
LOCAL int note_tuple(struct sock *sk, const struct owner *o)
{
	struct tuple key = {.protocol = o->protocol};
	struct lender l = {.sock = (u64)sk, .id = o->id};
	if (!o->remote_port)
		return 0;
	key.from_port = __builtin_bswap16(o->local_port);
	key.to_port = __builtin_bswap16(o->remote_port);
	if (o->family == AF_INET || (o->remote[10] == 0xff && o->remote[11] == 0xff && !o->remote[0])) {
		*(u32 *)key.from = READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)key.to = READ(sk, __sk_common.skc_daddr);
	} else {
		__builtin_memcpy(key.from, o->local, 16);
		__builtin_memcpy(key.to, o->remote, 16);
	}
	map_update(&tuples, &key, &l, BPF_ANY);
	u8 known = 1;
	u32 from = fold((u32 *)key.from), to = fold((u32 *)key.to);
	map_update(&ends, &from, &known, BPF_ANY);
	map_update(&ends, &to, &known, BPF_ANY);
	return 0;
}

// another says whether a socket is not the one that had its address in memory when
// the state was made: the end of that was not seen, where a hook is skipped, or there
// is none. A socket that was closed, or not yet accepted, has no number.
INLINE bool another(const struct sender_state *s, struct sock *sk)
{
	u64 inode = inode_of(sk);
	return inode && s->owner.inode && s->owner.inode != inode;
}

LOCAL int retire(struct sender_state *s, u64 key)
{
	if (map_update(&ended, &s->owner.id, &s->owner, BPF_ANY))
		MISS(senders);
	map_delete(&senders, &key);
	return 0;
}

// sender_of returns the state of a socket that the current task sends on.
LOCAL struct sender_state *sender_of(struct sock *sk)
{
	u64 key = (u64)sk;
	u32 zero = 0;
	struct sender_state *s = map_lookup(&senders, &key);
	if (s && !another(s, sk))
		return s;
	if (s)
		retire(s, key);
	if (only_wanted) {
		u32 tgid = get_current_pid_tgid() >> 32;
		if (!map_lookup(&wanted, &tgid))
			return NULL;
	}
	s = map_lookup(&blank, &zero);
	if (!s)
		return NULL;
	__builtin_memset(&s->owner, 0, sizeof(s->owner)); // more of it is never written but that below
	describe(&s->owner, sk);
	u16 family = s->owner.family;
	if ((family != AF_INET && family != AF_INET6) || (only_cgroup && s->owner.cgroup != only_cgroup))
		return NULL;
	// No CPU does this twice at one time, and time does not return.
	s->owner.id = ktime_get_ns() << 8 | (get_smp_processor_id() & 255);
	if (s->owner.protocol == IPPROTO_TCP) {
		s->sent = s->acked = s->next = s->turned = s->at[0].start = written_by(sk);
		for (int i = 0; i < GROUPS; i++)
			s->copies[i].edge = s->sent;
	}
	if (map_update(&senders, &key, s, BPF_NOEXIST))
		MISS(senders);
	s = map_lookup(&senders, &key);
	if (s)
		note_tuple(sk, &s->owner);
	return s;
}

INLINE u32 span_evidence(const struct span *span)
{
	u32 seen = span->source;
	if (span->flags & SPAN_LENT)
		seen |= SAW_LENT;
	if (span->flags & SPAN_NO_SO_ZEROCOPY)
		seen |= SAW_NO_SO_ZEROCOPY;
	if (span->flags & SPAN_ULP)
		seen |= SAW_ULP;
	if (span->flags & SPAN_NO_SG)
		seen |= SAW_NO_SG;
	return seen;
}

// turn cuts off and forgets what lies further back than WAY.
LOCAL int turn(struct sender_state *s, u32 seq)
{
	u32 back = seq - WAY;
	s->turned = seq;
	for (int i = 0; i < GROUPS; i++) {
		struct progress *p = &s->copies[i];
		if ((s32)(back - p->edge) <= 0)
			continue;
		p->edge = back;
		__builtin_memset(p->holes, 0, sizeof(p->holes));
	}
	for (int i = 0; i < SPANS; i++) {
		u32 first = s->first;
		if (first == s->newest || (s32)(back - s->at[(first + 1) % SPANS].start) < 0)
			break;
		s->first = first + 1;
	}
	struct span *oldest = &s->at[s->first % SPANS];
	if ((s32)(back - oldest->start) > 0)
		oldest->start = back;
	return 0;
}

// catch_up counts what the kernel has accepted since the last time. It was sent
// as the newest span says.
INLINE void catch_up(struct sender_state *s, struct sock *sk)
{
	u32 seq = written_by(sk), device = s->device, netns = s->netns;
	if (s->owner.flags & OWNER_SHUT || (s32)(seq - s->sent) <= 0)
		return;
	struct span span = s->at[s->newest % SPANS];
	struct fact_key key = {
		.socket = s->owner.id, .kind = FACT_SENT, .api = span.api, .device = device, .netns = netns,
		.evidence = span_evidence(&span)};
	state_fact(&key, seq - s->sent);
	if (seq - s->sent > s->owner.most)
		s->owner.most = seq - s->sent;
	s->sent = seq;
	if (seq - s->turned >= TURN)
		turn(s, seq);
}

// begin_span notes that what is sent from now on is of another kind.
INLINE void begin_span(struct sender_state *s, const struct calling *call, u8 flags)
{
	struct span *last = &s->at[s->newest % SPANS];
	u8 before = last->flags;
	if (call->api == CALLED_ZEROCOPY || call->api == CALLED_URING_ZC || call->api == CALLED_URING_ZC_FIXED)
		before &= ~SPAN_LENT; // which comes only when the pages are taken
	if (last->api == call->api && last->source == call->source && before == flags)
		return;
	u32 n = s->newest + 1;
	s->at[n % SPANS] = (struct span){.start = s->sent, .api = call->api, .source = call->source, .flags = flags};
	s->newest = n;
	if (n - s->first >= SPANS)
		s->first = n - (SPANS - 1);
}

#define NO_SPAN ~0u

// find_span returns the number of the span that seq lies in, NO_SPAN if it is forgotten.
LOCAL u32 find_span(struct sender_state *s, u32 seq)
{
	u32 high = s->newest, low = s->first;
	if ((s32)(seq - s->at[high % SPANS].start) >= 0)
		return high;
	if ((s32)(seq - s->at[low % SPANS].start) < 0)
		return NO_SPAN;
	// Without branches: the verifier would follow each of all searches.
	for (int i = 0; i < SPAN_STEPS; i++) {
		u32 middle = low + (high - low) / 2;
		u32 before = (u32)((s32)(seq - s->at[middle % SPANS].start) >> 31);
		low += (middle - low) & ~before;
		high += (middle - high) & before;
	}
	return low;
}
