// The part of the kernel that the tracer reads: types with only the fields that
// are looked at, relocated at load time by the kernel's own BTF (CO-RE), and
// helpers by their number (enum bpf_func_id of include/uapi/linux/bpf.h). Written
// out here so that the objects depend on no installed headers.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
// GLOBAL functions are verified by themselves, for any arguments.
#define GLOBAL __attribute__((noinline))
#define MAP_SIZE(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name
#define NULL ((void *)0)

// enum bpf_map_type
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_STACK_TRACE 7
#define BPF_MAP_TYPE_LRU_HASH 9

#define BPF_F_NO_PREALLOC 1

#define BPF_ANY 0
#define BPF_NOEXIST 1

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u64 (*const ktime_get_ns)(void) = (void *)5;
static u32 (*const get_smp_processor_id)(void) = (void *)8;
static u64 (*const get_current_pid_tgid)(void) = (void *)14;
static long (*const get_current_comm)(void *to, u32 size) = (void *)16;
static long (*const get_stackid)(void *ctx, void *map, u64 flags) = (void *)27;
static long (*const probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static long (*const seq_write)(void *seq, const void *from, u32 size) = (void *)127;
static struct task_struct *(*const get_current_task_btf)(void) = (void *)158; // Linux 5.11
static struct pt_regs *(*const task_pt_regs)(struct task_struct *task) = (void *)175; // Linux 5.15

// HIDE keeps the compiler from knowing a value, and so from leaving out the mask
// that shows the verifier its bounds.
#define HIDE(value) __asm__ volatile("" : "+r"(value))

#define CORE __attribute__((preserve_access_index))

// enum bpf_field_info_kind, as the compiler and loaders agree on it.
#define FIELD_OFFSET(field) __builtin_preserve_field_info(field, 0)
#define FIELD_EXISTS(field) __builtin_preserve_field_info(field, 2)

// READ returns a field of an object that the verifier does not know the type
// of, 0 where it cannot be read.
#define READ(pointer, field)                                                                    \
	({                                                                                      \
		typeof((pointer)->field) value_ = (typeof((pointer)->field))0;                  \
		probe_read_kernel(&value_, sizeof(value_), &(pointer)->field); \
		value_;                                                                         \
	})

// READ_BITFIELD returns a bit field of any other object.
#define READ_BITFIELD(pointer, field)                                                          \
	({                                                                                      \
		u64 value_ = 0;                                                                 \
		probe_read_kernel(&value_, __builtin_preserve_field_info((pointer)->field, 1),  \
				  (const u8 *)(pointer) + __builtin_preserve_field_info((pointer)->field, 0)); \
		value_ <<= __builtin_preserve_field_info((pointer)->field, 4);                  \
		value_ >> __builtin_preserve_field_info((pointer)->field, 5);                   \
	})

// BITFIELD returns a bit field of an object with a type known to the verifier.
#define BITFIELD(pointer, field)                                                               \
	({                                                                                      \
		const u8 *at_ = (const u8 *)(pointer) + __builtin_preserve_field_info((pointer)->field, 0); \
		u64 value_ = 0;                                                                 \
		switch (__builtin_preserve_field_info((pointer)->field, 1)) {                   \
		case 1: value_ = *(const u8 *)at_; break;                                       \
		case 2: value_ = *(const u16 *)at_; break;                                      \
		case 4: value_ = *(const u32 *)at_; break;                                      \
		case 8: value_ = *(const u64 *)at_; break;                                      \
		}                                                                               \
		value_ <<= __builtin_preserve_field_info((pointer)->field, 4);                  \
		value_ >> __builtin_preserve_field_info((pointer)->field, 5);                   \
	})

struct list_head {
	struct list_head *next;
} CORE;

struct ns_common {
	u32 inum;
} CORE;

struct net {
	struct ns_common ns;
	u64 net_cookie; // Linux 5.12
	struct list_head ptype_all; // per namespace since 6.18, global before
} CORE;

typedef struct {
	struct net *net;
} CORE possible_net_t;

struct packet_type {
	bool ignore_outgoing;
	struct list_head list;
} CORE;

struct rtnl_link_ops {
	const char *kind;
} CORE;

struct net_device {
	u32 mtu;
	u32 flags;
	u64 features;
	int ifindex;
	possible_net_t nd_net;
	char name[16];
	struct list_head ptype_all;
	const struct rtnl_link_ops *rtnl_link_ops;
	void *xdp_prog; // of generic XDP
} CORE;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
} CORE;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile u8 skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
} CORE;

typedef struct {
	u32 val;
} CORE kuid_t;

struct kernfs_node {
	u64 id;
} CORE;

struct cgroup {
	struct kernfs_node *kn;
} CORE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} CORE;

struct super_block {
	unsigned long s_magic;
} CORE;

struct inode {
	unsigned long i_ino;
	u16 i_mode;
	struct super_block *i_sb;
} CORE;

struct file {
	void *private_data;
	struct inode *f_inode;
	u32 f_flags;
} CORE;

struct sock;

struct socket {
	struct file *file;
	struct sock *sk;
} CORE;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	u16 sk_protocol;
	u16 sk_type;
	int sk_err;
	u16 sk_tsflags; // u32 since Linux 6.6: the flags looked at are in its lower half
	kuid_t sk_uid;
	struct sock_cgroup_data sk_cgrp_data;
} CORE;

struct tcp_sock {
	u32 write_seq, snd_una, snd_nxt;
	u64 bytes_acked;
} CORE;

struct inet_sock {
	u16 inet_sport; // in network order; stays when skc_num is given back
} CORE;

struct udp_sock {
	int pending; // family of a datagram that is not complete
} CORE;

struct inet_connection_sock {
	const void *icsk_ulp_ops;
} CORE;

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	u32 len;
	u32 data_len;
	u8 ip_summed : 2;
	u8 encapsulation : 1;
	u16 inner_transport_header;
	u16 inner_network_header;
	u16 transport_header;
	u16 network_header;
	u16 protocol;
	u32 end;
	unsigned char *head;
	unsigned char *data;
} CORE;

struct skb_shared_info {
	u8 flags;
	u8 nr_frags;
	u8 tx_flags;
	u32 tskey;
	u16 gso_size;
	void *destructor_arg;
	struct {
		u64 page;
		u32 len;
		u32 offset;
	} frags[1];
} CORE;

struct address_space;

// The flags are the first word of it, under changing types.
struct page {
	unsigned long compound_head;
	struct address_space *mapping;
} CORE;

// Linux 7.3 has another word in the place of compound_head.
struct page___7_3 {
	unsigned long compound_info;
} CORE;

struct iov_iter {
	u8 iter_type;
} CORE;

struct ubuf_info;

// Of MSG_ZEROCOPY, since Linux 6.2.
struct ubuf_info_msgzc {
	u16 zerocopy : 1; // nobody had to copy so far
} CORE;

struct msghdr {
	struct iov_iter msg_iter;
	u32 msg_flags;
	struct ubuf_info *msg_ubuf;
} CORE;

struct pipe_buf_operations {
	void *confirm;
	void *release;
	void *try_steal;
} CORE;

struct pipe_buffer {
	struct pipe_buf_operations *ops;
} CORE;

struct pipe_inode_info {
	u32 tail;
	u32 ring_size;
	struct pipe_buffer *bufs;
} CORE;

struct fdtable {
	u32 max_fds;
	struct file **fd;
	u64 *open_fds;
} CORE;

struct files_struct {
	struct fdtable *fdt;
} CORE;

struct task_struct {
	u32 flags;
	int tgid;
	char comm[16];
	struct task_struct *group_leader;
	struct files_struct *files;
	struct pipe_inode_info *splice_pipe;
	void *io_uring;
} CORE;

struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
} CORE;

struct bpf_iter_meta {
	void *seq;
	u64 session_id;
} CORE;

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
	void *value;
} CORE;

struct io_kiocb {
	u8 opcode;
} CORE;

// The registers of a system call: its number and first arguments.
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long orig_ax, di, si, dx, r10;
} CORE;
#define CALL_NUMBER(regs) ((u32)(regs)->orig_ax)
#define CALL_ARG1(regs) ((regs)->di)
#define CALL_ARG2(regs) ((regs)->si)
#define CALL_ARG3(regs) ((regs)->dx)
#define CALL_ARG4(regs) ((regs)->r10)
enum {
	NR_WRITE = 1, NR_WRITEV = 20, NR_SENDFILE = 40, NR_SENDTO = 44, NR_SENDMSG = 46,
	NR_SPLICE = 275, NR_SENDMMSG = 307, NR_PWRITEV2 = 328,
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
};
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
} CORE;
#define CALL_NUMBER(r) ((u32)(r)->syscallno)
#define CALL_ARG1(r) ((r)->orig_x0)
#define CALL_ARG2(r) ((r)->regs[1])
#define CALL_ARG3(r) ((r)->regs[2])
#define CALL_ARG4(r) ((r)->regs[3])
enum {
	NR_WRITE = 64, NR_WRITEV = 66, NR_SENDFILE = 71, NR_SENDTO = 206, NR_SENDMSG = 211,
	NR_SPLICE = 76, NR_SENDMMSG = 269, NR_PWRITEV2 = 287,
};
#else
#error "no registers of this machine are known"
#endif

// same_name compares the names of two devices, which lie where numbers may.
INLINE bool same_name(const u8 *a, const u8 *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;
	return x[0] == y[0] && x[1] == y[1];
}
