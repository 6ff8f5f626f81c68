// Sockets: who they belong to, and by which call the application sends.
#pragma once

#include "state.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define TCP_SYN_SENT 2
#define AF_INET 2
#define AF_INET6 10
#define MSG_ZEROCOPY 0x4000000
#define MSG_SPLICE_PAGES 0x8000000 // Linux 6.5
#define PF_IO_WORKER 0x10
#define PF_KTHREAD 0x200000
#define O_DIRECT_X86 040000
#define O_DIRECT_ARM64 0200000
#if defined(__TARGET_ARCH_arm64)
#define O_DIRECT O_DIRECT_ARM64
#else
#define O_DIRECT O_DIRECT_X86
#endif

// enum io_uring_op
#define IORING_OP_WRITEV 2
#define IORING_OP_WRITE_FIXED 5
#define IORING_OP_SENDMSG 9
#define IORING_OP_WRITE 23
#define IORING_OP_SEND 26
#define IORING_OP_SPLICE 30
#define IORING_OP_SEND_ZC 47
#define IORING_OP_SENDMSG_ZC 48

struct call {
	u8 api, source, zerocopy, sure;
	u8 kernel; // the current task is no program's
};

INLINE struct file *file_of(struct task_struct *task, u64 fd)
{
	struct files_struct *files = READ(task, files);
	struct fdtable *table = READ(files, fdt);
	if ((u32)fd >= READ(table, max_fds))
		return NULL;
	struct file **at = READ(table, fd) + (u32)fd;
	struct file *file = NULL;
	probe_read_kernel(&file, sizeof(file), at);
	return file;
}

// is_socket says whether a descriptor of the task is this socket.
INLINE bool is_socket(struct task_struct *task, u64 fd, u64 sk)
{
	struct file *file = file_of(task, fd);
	if (!file)
		return 0;
	struct socket *socket = READ(file, private_data);
	if (!socket)
		return 0;
	return (u64)READ(socket, sk) == sk;
}

#define TMPFS_MAGIC 0x01021994
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define DIRECT_MOST 256 // descriptors whose files are looked at,
#define TABLE_MOST 64	 // and words of 64 that say which are open

INLINE u8 direct_source(struct file *in)
{
	struct inode *inode = READ(in, f_inode);
	struct super_block *block = READ(inode, i_sb);
	return READ(block, s_magic) == TMPFS_MAGIC ? SOURCE_MEMORY : SOURCE_DIRECT;
}

// reads_direct says whether a program may have a file open with O_DIRECT: pages that are
// in a pipe, and were read for it, do not tell how.
GLOBAL u32 reads_direct(u32 otherwise)
{
	struct task_struct *task = get_current_task_btf();
	struct files_struct *files = READ(task, files);
	struct fdtable *table = READ(files, fdt);
	u64 *open = READ(table, open_fds), word = 0;
	u32 words = READ(table, max_fds) / 64;
	if (words > TABLE_MOST)
		return 1;
	for (u32 i = DIRECT_MOST / 64; i < TABLE_MOST; i++) {
		if (i >= words)
			break;
		probe_read_kernel(&word, sizeof(word), open + i);
		if (word)
			return 1;
	}
	for (u32 fd = 0; fd < DIRECT_MOST; fd++) {
		struct file *file = file_of(task, fd);
		if (!file || !(READ(file, f_flags) & O_DIRECT))
			continue;
		struct inode *inode = READ(file, f_inode);
		u16 mode = READ(inode, i_mode) & S_IFMT;
		if (mode == S_IFREG || mode == S_IFBLK)
			return 1;
	}
	return otherwise;
}

// pipe_source tells where the pages at the outlet of a pipe are from, by the
// functions that look after them.
INLINE u8 pipe_source(struct pipe_inode_info *pipe)
{
	if (!pipe)
		return 0;
	u32 size = READ(pipe, ring_size);
	struct pipe_buffer *buffer = READ(pipe, bufs);
	if (!size || !buffer)
		return 0;
	// The compiler must not assume the size of the kernel's structure.
	u64 stride = __builtin_preserve_type_info(*buffer, 1);
	buffer = (void *)buffer + (READ(pipe, tail) & (size - 1)) * stride;
	struct pipe_buf_operations *ops = READ(buffer, ops);
	if (!ops)
		return 0;
	u64 confirm = (u64)READ(ops, confirm), release = (u64)READ(ops, release), steal = (u64)READ(ops, try_steal);
	if (confirm && confirm == code_cache_confirm)
		return SOURCE_CACHE;
	if (steal && steal == code_user_steal)
		return SOURCE_USER;
	if (release && release == code_written_release)
		return SOURCE_WRITTEN;
	if (release && release == code_generic_release)
		return steal == 0 ? SOURCE_SOCKET : steal == code_generic_steal ? SOURCE_READ : 0;
	return 0;
}

INLINE void uring_call(struct call *call)
{
	u32 thread = get_current_pid_tgid();
	u32 *op = map_lookup(&submitted, &thread);
	call->api = API_URING_SEND;
	if (!op)
		return;
	call->sure = 1;
	if (*op == IORING_OP_SEND_ZC || *op == IORING_OP_SENDMSG_ZC)
		call->api = API_URING_ZC;
	else if (*op == IORING_OP_SPLICE)
		call->api = API_SPLICE;
}

INLINE void flags_call(struct call *call, u8 api, u64 flags)
{
	call->api = flags & MSG_ZEROCOPY ? API_ZEROCOPY : api;
	call->zerocopy = !!(flags & MSG_ZEROCOPY);
}

// current_call tells by which call the current task sends on sk, if it does: a
// descriptor among the arguments has to be that socket. Where sk is not, the
// task may still be at work for io_uring.
GLOBAL int current_call(struct call *call, u64 sk)
{
	if (!call)
		return 0;
	struct task_struct *task = get_current_task_btf();
	*call = (struct call){};
	u32 flags = task->flags;
	if (flags & PF_KTHREAD) {
		call->kernel = 1;
		return 0;
	}
	if (flags & PF_IO_WORKER) {
		uring_call(call);
		return 0;
	}
	struct pt_regs *regs = task_pt_regs(task);
	u32 nr = CALL_NUMBER(regs);
	u64 fd = CALL_ARG1(regs);
	if (nr == NR_SPLICE)
		fd = CALL_ARG3(regs);
	if (!is_socket(task, fd, sk)) {
		if (READ(task, io_uring))
			uring_call(call);
		return 0;
	}
	call->sure = 1;
	switch (nr) {
	case NR_WRITE:
		call->api = API_WRITE;
		break;
	case NR_WRITEV:
	case NR_PWRITEV2:
		call->api = API_WRITEV;
		break;
	case NR_SENDTO:
		flags_call(call, API_WRITE, CALL_ARG4(regs));
		break;
	case NR_SENDMSG:
		flags_call(call, API_WRITEV, CALL_ARG3(regs));
		break;
	case NR_SENDMMSG:
		flags_call(call, API_WRITEV, CALL_ARG4(regs));
		break;
	case NR_SENDFILE: {
		call->api = API_SENDFILE;
		call->source = pipe_source(READ(task, splice_pipe));
		struct file *in = file_of(task, CALL_ARG2(regs));
		if (call->source == SOURCE_READ && in && READ(in, f_flags) & O_DIRECT)
			call->source = direct_source(in);
		break;
	}
	case NR_SPLICE: {
		struct file *in = file_of(task, CALL_ARG1(regs));
		call->api = API_SPLICE;
		if (in)
			call->source = pipe_source(READ(in, private_data));
		if (call->source == SOURCE_USER)
			call->api = API_VMSPLICE;
		if (call->source == SOURCE_READ && reads_direct(0))
			call->source = SOURCE_DIRECT;
		break;
	}
	default: // no call that sends, but what it does may let go what others sent
		call->sure = 0;
	}
	return 0;
}

// Sockets are read as memory: where they come from a map, the verifier knows no
// type of them.
INLINE u64 inode_of(struct sock *sk)
{
	struct socket *socket = READ(sk, sk_socket);
	struct file *file = socket ? READ(socket, file) : NULL;
	struct inode *inode = file ? READ(file, f_inode) : NULL;
	return inode ? READ(inode, i_ino) : 0;
}

INLINE u64 cgroup_of(struct sock *sk)
{
	struct cgroup *cgroup = READ(sk, sk_cgrp_data.cgroup);
	struct kernfs_node *node = cgroup ? READ(cgroup, kn) : NULL;
	return node ? READ(node, id) : 0;
}

INLINE u32 write_seq_of(struct sock *sk)
{
	return READ((struct tcp_sock *)sk, write_seq);
}

INLINE u64 acked_of(struct sock *sk)
{
	return READ((struct tcp_sock *)sk, bytes_acked);
}

INLINE void describe(struct socket_state *s, struct sock *sk)
{
	struct net *net = READ(sk, __sk_common.skc_net.net);
	s->facts.inode = inode_of(sk);
	s->facts.cgroup = cgroup_of(sk);
	s->facts.netns = READ(net, ns.inum);
	s->facts.uid = READ(sk, sk_uid.val);
	s->facts.family = READ(sk, __sk_common.skc_family);
	s->facts.protocol = READ(sk, sk_protocol);
	s->facts.type = READ(sk, sk_type);
	s->facts.local_port = READ(sk, __sk_common.skc_num);
	if (!s->facts.local_port) // it was given back, as the socket is closed
		s->facts.local_port = __builtin_bswap16(READ((struct inet_sock *)sk, inet_sport));
	s->facts.remote_port = __builtin_bswap16(READ(sk, __sk_common.skc_dport));
	if (s->facts.family == AF_INET6) {
		probe_read_kernel(s->facts.local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		probe_read_kernel(s->facts.remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		*(u32 *)s->facts.local = READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)s->facts.remote = READ(sk, __sk_common.skc_daddr);
	}
}

// own records the current process as the owner. Where nobody is recorded yet. Its name
// is that of its first thread: others, as io_uring's, have names of their own.
INLINE void own(struct socket_state *s)
{
	if (s->facts.tgid)
		return;
	struct task_struct *task = get_current_task_btf();
	s->facts.tgid = get_current_pid_tgid() >> 32;
	probe_read_kernel(s->facts.comm, sizeof(s->facts.comm), READ(task, group_leader)->comm);
}

INLINE bool wanted_process(u32 tgid)
{
	return !only_processes || map_lookup(&processes, &tgid) != NULL;
}

INLINE void close_socket(u64 key, struct socket_state *s)
{
	s->facts.flags |= SOCKET_CLOSED;
	if (map_update(&closed, &s->facts.id, s, BPF_ANY))
		LOSE(sockets);
	map_delete(&sockets, &key);
}

INLINE void count_sent(const struct socket_state *s, u8 kind, u8 api, u64 bytes)
{
	struct counter_key key = {.socket = s->facts.id, .kind = kind, .api = api};
	if (window & 1)
		key.evidence = SEEN_SAMPLED;
	count(&key, bytes, 0);
}

INLINE void push_unseen(struct runs *runs, u32 seq)
{
	u32 n = ++runs->last;
	runs->at[n % RUNS] = (struct run){.start = seq, .flags = RUN_UNSEEN};
}

// claim says whether it is for the caller to count what was accepted between two
// sequence numbers: sends end, and are looked at, without the lock of the socket.
// The instruction compares and exchanges a word; it is written out since the
// compiler would take it, of Linux 5.12, together with others that change how
// everything is compiled.
INLINE bool claim(u32 *at, u32 from, u32 to)
{
	u64 was;
	__asm__ volatile("r0 = %1\n"
			 "r1 = %2\n"
			 "r2 = %3\n"
			 ".byte 0xc3, 0x21, 0, 0, 0xf1, 0, 0, 0\n" // r0 = cmpxchg_32(r1 + 0, r0, r2)
			 "%0 = r0"
			 : "=r"(was)
			 : "r"((u64)from), "r"(at), "r"((u64)to)
			 : "r0", "r1", "r2", "memory");
	return (u32)was == from;
}

// catch_up counts what the socket has accepted since that was read last: of the
// API that was asked for last, or unseen.
GLOBAL int catch_up(struct socket_state *s, u64 sk)
{
	if (!s)
		return 0;
	u32 from = s->sent, seq = write_seq_of((struct sock *)sk);
	if ((s32)(seq - from) <= 0 || s->facts.flags & SOCKET_SHUT || !claim(&s->sent, from, seq))
		return 0;
	struct run *last = &s->asked.at[s->asked.last % RUNS];
	count_sent(s, last->flags & RUN_UNSEEN ? KIND_UNSEEN : KIND_SENT, last->api, seq - from);
	return 0;
}

// resume takes up a TCP socket that was last met in another window. What it has
// sent meanwhile is unseen. Sequence numbers are the lower half of how much was
// sent; how much was acknowledged tells the upper.
GLOBAL int resume(struct socket_state *s, u64 sk)
{
	if (!s)
		return 0;
	u32 from = s->sent, seq = write_seq_of((struct sock *)sk);
	u64 missed = (u32)(seq - from), acked = acked_of((struct sock *)sk), more = acked - s->acked;
	if (more > missed + (1u << 31))
		missed += (more - missed + (1u << 31)) >> 32 << 32;
	s->window = window;
	s->acked = acked;
	s->guessed = 0;
	if (!missed || s->facts.flags & SOCKET_SHUT || !claim(&s->sent, from, seq))
		return 0;
	count_sent(s, KIND_UNSEEN, API_UNKNOWN, missed);
	if (missed < TURN) {
		push_unseen(&s->asked, from);
		return 0;
	}
	s->queued = s->door = READ((struct tcp_sock *)sk, snd_una);
	restart(&s->seen, s->door);
	restart(&s->asked, seq);
	return 0;
}

// meet takes up a TCP socket in the window that is now, and counts what it has sent.
INLINE void meet(struct socket_state *s, u64 sk)
{
	if (s->window != window)
		resume(s, sk);
	else
		catch_up(s, sk);
}

// followed says whether a socket is of those whose payload is looked at. The protocol of
// a raw socket is that of what it carries.
INLINE bool followed(struct sock *sk)
{
	u16 family = READ(sk, __sk_common.skc_family), type = READ(sk, sk_type), protocol = READ(sk, sk_protocol);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	return type == SOCK_STREAM ? protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP : type == SOCK_DGRAM && protocol == IPPROTO_UDP;
}

// make_state makes the state of a socket that is met for the first time; tgid is the
// process that has it, and it is counted from where on, unless that is from now on. It
// is made in the room that the program has, see room.
GLOBAL int make_state(u64 key, u32 slot, u32 tgid, u32 counted, u32 from)
{
	struct sock *sk = (void *)key;
	struct packet *p = map_lookup(&scratch, &slot);
	if (!p)
		return 0;
	struct base *base = map_lookup(&bases, &key); // none if nobody looks in windows
	if (base && base->tgid)
		tgid = base->tgid;
	if (!followed(sk) || !wanted_process(tgid))
		return 0;
	struct socket_state *s = &p->fresh;
	__builtin_memset(&s->facts, 0, sizeof(s->facts));
	// Of the runs only the first is ever written here: what was sent before.
	s->asked.at[0] = s->seen.at[0] = (struct run){};
	s->asked.turned = s->seen.turned = 0;
	describe(s, sk);
	if (only_cgroup && s->facts.cgroup != only_cgroup)
		return 0;
	// No CPU does this twice at one time, and time does not return.
	s->facts.id = ktime_get_ns() << 8 | (get_smp_processor_id() & 255);
	s->window = window;
	s->sent = s->queued = s->door = 0;
	if (s->facts.protocol == IPPROTO_TCP) {
		s->sent = write_seq_of(sk);
		if (counted && (s32)(s->sent - from) > 0)
			s->sent = from;
		s->acked = acked_of(sk);
		s->queued = s->door = READ((struct tcp_sock *)sk, snd_nxt);
		s->asked.at[0].start = s->seen.at[0].start = s->asked.turned = s->seen.turned = READ((struct tcp_sock *)sk, snd_una);
		s->asked.at[0].flags = s->seen.at[0].flags = RUN_UNSEEN;
	}
	if (base) {
		s->facts.tgid = base->tgid;
		__builtin_memcpy(s->facts.comm, base->comm, sizeof(s->facts.comm));
		s->sent = base->seq;
		s->acked = base->acked;
	}
	if (map_update(&sockets, &key, s, BPF_NOEXIST))
		LOSE(sockets);
	if (base) {
		resume(map_lookup(&sockets, &key), key);
		map_delete(&bases, &key);
	}
	return 0;
}

INLINE struct socket_state *adopt(u64 key, u32 slot, u32 tgid)
{
	make_state(key, slot, tgid, 0, 0);
	return map_lookup(&sockets, &key);
}


// sender returns the state of a socket that the current task sends on.
INLINE struct socket_state *sender(u64 key, u32 slot)
{
	struct socket_state *s = map_lookup(&sockets, &key);
	// Nothing tells of the end of a UDP socket but its successor.
	if (s && s->facts.protocol != IPPROTO_TCP && s->facts.inode != inode_of((struct sock *)key) && s->facts.inode) {
		close_socket(key, s);
		s = NULL;
	}
	if (!s)
		s = adopt(key, slot, get_current_pid_tgid() >> 32);
	return s;
}
