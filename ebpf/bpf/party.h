// What a descriptor stands for, and what is read of sockets.
#pragma once

#include "calls.h"

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFIFO 0010000
#define RLIMIT_MEMLOCK 8

static void *(*const get_current_task)(void) = (void *)35;

typedef struct {
	s32 counter;
} CORE atomic_t;

typedef struct {
	s64 counter;
} CORE atomic_long_t;

struct sk_buff_head {
	struct sk_buff *next, *prev;
	u32 qlen;
} CORE;

struct sock___now {
	struct sk_buff_head sk_error_queue;
	atomic_t sk_omem_alloc;
	s32 sk_wmem_queued;
	s32 sk_sndbuf;
	atomic_t sk_zckey;
	u16 sk_tsflags; // u32 since Linux 6.6: the flags looked at are in its lower half
} CORE;

// Before Linux 5.16.
struct sock___tskey {
	u32 sk_zckey;
} CORE;

struct sock_common___state {
	u8 skc_state;
} CORE;

struct sock___state {
	struct sock_common___state __sk_common;
} CORE;

struct tcp_sock___now {
	u8 nonagle : 4;
	u64 bytes_sent;
	u64 bytes_acked;
} CORE;

struct file_operations {
	void *splice_read;
} CORE;

struct file___operations {
	struct file_operations *f_op;
} CORE;

struct inode___mode {
	u16 i_mode;
	unsigned long i_ino;
} CORE;

struct sk_buff___cb {
	char cb[48];
} CORE;

struct sock_extended_err {
	u8 ee_origin;
	u8 ee_code;
	u32 ee_info;
	u32 ee_data;
} CORE;

struct sock_exterr_skb {
	struct sock_extended_err ee;
} CORE;

struct pipe_inode_info___now {
	u32 max_usage;
} CORE;

struct rlimit {
	unsigned long rlim_cur;
} CORE;

struct signal_struct {
	struct rlimit rlim[16];
} CORE;

struct user_struct {
	atomic_long_t locked_vm;
	atomic_long_t pipe_bufs;
} CORE;

struct cred {
	struct user_struct *user;
} CORE;

struct task_struct___now {
	struct signal_struct *signal;
	struct cred *cred;
	struct task_struct___now *group_leader;
	char comm[16];
} CORE;

struct netns_ipv4 {
	u8 sysctl_tcp_mtu_probing;
} CORE;

struct netns_core {
	s32 sysctl_optmem_max; // here since Linux 6.8
} CORE;

struct net___now {
	struct netns_ipv4 ipv4;
	struct netns_core core;
} CORE;

struct party {
	struct file *file;
	void *inode;
	struct sock *sk; // of a socket
	u64 number;	 // of the inode
	enum party_kind kind;
};

INLINE u64 optmem_of(struct sock *sk)
{
	s32 n = READ((struct sock___now *)sk, sk_omem_alloc.counter);
	return n > 0 ? n : 0;
}

INLINE u32 next_id(struct sock *sk)
{
	struct sock___now *now = (void *)sk;
	if (FIELD_EXISTS(now->sk_zckey.counter))
		return READ(now, sk_zckey.counter);
	return READ((struct sock___tskey *)sk, sk_zckey);
}

INLINE bool lends(struct sock *sk)
{
	return READ(sk, __sk_common.skc_flags) >> (bit_so_zerocopy & 63) & 1;
}

// naglings_of returns the bits of TCP_NODELAY and TCP_CORK.
INLINE u8 naglings_of(struct sock *sk)
{
	struct tcp_sock___now *tp = (void *)sk;
	u64 value = 0;
	u32 size = __builtin_preserve_field_info(tp->nonagle, 1);
	if (size > 8)
		return 0;
	probe_read_kernel(&value, size, (void *)tp + __builtin_preserve_field_info(tp->nonagle, 0));
	value <<= __builtin_preserve_field_info(tp->nonagle, 4);
	return value >> __builtin_preserve_field_info(tp->nonagle, 5);
}

INLINE u64 locked_pages(void)
{
	struct task_struct___now *task = get_current_task();
	struct cred *cred = READ(task, cred);
	struct user_struct *user = READ(cred, user);
	return READ(user, locked_vm.counter);
}

// pipe_pages is how many pages the pipes of the current user may hold.
INLINE u64 pipe_pages(void)
{
	struct task_struct___now *task = get_current_task();
	struct cred *cred = READ(task, cred);
	struct user_struct *user = READ(cred, user);
	return READ(user, pipe_bufs.counter);
}

INLINE u64 memlock_limit(void)
{
	struct task_struct___now *task = get_current_task();
	struct signal_struct *signal = READ(task, signal);
	return READ(signal, rlim[RLIMIT_MEMLOCK].rlim_cur);
}

INLINE u32 slots_of(struct file *file)
{
	struct pipe_inode_info___now *pipe = READ(file, private_data);
	return READ(pipe, max_usage);
}

INLINE void classify(struct party *p, struct file *file)
{
	struct inode___mode *inode = (void *)READ(file, f_inode);
	p->file = file;
	p->inode = inode;
	p->number = READ(inode, i_ino);
	switch (READ(inode, i_mode) & S_IFMT) {
	case S_IFREG: {
		struct file_operations *op = READ((struct file___operations *)file, f_op);
		if (READ(op, splice_read))
			p->kind = PARTY_FILE;
		return;
	}
	case S_IFIFO:
		p->kind = PARTY_PIPE;
		return;
	case S_IFSOCK:
		break;
	default:
		return;
	}
	struct socket *socket = READ(file, private_data);
	struct sock *sk = READ(socket, sk);
	if (!sk)
		return;
	u16 family = READ(sk, __sk_common.skc_family), protocol = READ(sk, sk_protocol);
	if (family == AF_UNIX) {
		if (READ(sk, sk_type) == SOCK_STREAM)
			p->kind = PARTY_UNIX;
	} else if (family != AF_INET && family != AF_INET6) {
		return;
	} else if (protocol == IPPROTO_TCP) {
		p->kind = PARTY_TCP;
	} else if (protocol == IPPROTO_UDP) {
		p->kind = PARTY_UDP;
	}
	if (p->kind)
		p->sk = sk;
}

struct task_struct___files {
	struct files_struct *files;
} CORE;

INLINE void find_party(struct party *p, u64 fd)
{
	struct task_struct___files *task = get_current_task();
	struct files_struct *files = READ(task, files);
	struct fdtable *table = READ(files, fdt);
	if ((u32)fd >= READ(table, max_fds))
		return;
	struct file **at = READ(table, fd) + (u32)fd;
	struct file *file = NULL;
	probe_read_kernel(&file, sizeof(file), at);
	if (file)
		classify(p, file);
}

struct completion {
	u32 from, to;
	bool copied;
};

// completion_at reads the oldest or the newest entry of a socket's error queue,
// in place, if it is a completion.
INLINE bool completion_at(struct completion *c, struct sock *sk, bool oldest)
{
	struct sk_buff_head *queue = &((struct sock___now *)sk)->sk_error_queue;
	struct sk_buff___cb *skb = (void *)(oldest ? READ(queue, next) : READ(queue, prev));
	if (!skb || (void *)skb == (void *)queue)
		return 0;
	struct sock_exterr_skb *e = (void *)&skb->cb;
	if (READ(e, ee.ee_origin) != SO_EE_ORIGIN_ZEROCOPY)
		return 0;
	c->from = READ(e, ee.ee_info);
	c->to = READ(e, ee.ee_data);
	c->copied = READ(e, ee.ee_code) & SO_EE_CODE_ZEROCOPY_COPIED;
	return 1;
}

// tells says whether there is anything to say about a socket: that it may lend
// memory, that somebody is to be told something, or that paths are probed.
INLINE bool tells(struct sock *sk)
{
	struct net___now *net = (void *)READ(sk, __sk_common.skc_net.net);
	return lends(sk) || READ((struct sock___now *)sk, sk_error_queue.qlen) || READ(net, ipv4.sysctl_tcp_mtu_probing);
}

INLINE u32 netns_of(struct sock *sk)
{
	struct net *net = READ(sk, __sk_common.skc_net.net);
	return READ(net, ns.inum);
}

INLINE void describe_now(struct socket_now *now, const struct party *p, struct task_struct *task)
{
	struct sock *sk = p->sk;
	struct sock___now *s = (void *)sk;
	struct net___now *net = (void *)READ(sk, __sk_common.skc_net.net);
	struct completion c;

	now->sk = (u64)sk;
	now->inode = p->number;
	if (FIELD_EXISTS(sk->sk_cgrp_data.cgroup)) { // Linux 5.15
		struct cgroup *group = READ(sk, sk_cgrp_data.cgroup);
		struct kernfs_node *node = READ(group, kn);
		now->cgroup = READ(node, id);
	}
	now->netns = READ((struct net *)net, ns.inum);
	now->uid = READ(sk, sk_uid.val);
	now->optmem = optmem_of(sk);
	now->queued = READ(s, sk_wmem_queued);
	now->sendbuf = READ(s, sk_sndbuf);
	if (FIELD_EXISTS(net->core.sysctl_optmem_max))
		now->optmem_max = READ(net, core.sysctl_optmem_max);
	now->mtu_probing = READ(net, ipv4.sysctl_tcp_mtu_probing);
	now->unread = READ(s, sk_error_queue.qlen);
	now->next = next_id(sk);
	now->timestamps = READ(s, sk_tsflags);
	if (completion_at(&c, sk, 1)) {
		now->oldest = c.from;
		now->copied = c.copied;
		if (completion_at(&c, sk, 0)) {
			now->newest = c.to;
			now->known = 1;
		}
	}
	now->zerocopy = lends(sk);
	now->state = READ((struct sock___state *)sk, __sk_common.skc_state);
	now->family = READ(sk, __sk_common.skc_family);
	now->protocol = READ(sk, sk_protocol);
	now->local_port = READ(sk, __sk_common.skc_num);
	now->remote_port = __builtin_bswap16(READ(sk, __sk_common.skc_dport));
	if (now->family == AF_INET6) {
		probe_read_kernel(now->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		probe_read_kernel(now->remote, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		*(u32 *)now->local = READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)now->remote = READ(sk, __sk_common.skc_daddr);
	}
	if (p->kind == PARTY_TCP) {
		struct tcp_sock___now *tp = (void *)sk;
		now->naglings = naglings_of(sk);
		now->sent = READ(tp, bytes_sent);
		now->acked = READ(tp, bytes_acked);
	}
	struct task_struct___now *t = (void *)task;
	struct task_struct___now *leader = READ(t, group_leader);
	probe_read_kernel(now->comm, sizeof(now->comm), &leader->comm);
}
