// What the tiers of functions keep in the kernel, and how they read it. They hook
// each send and each copy, and never each packet: what became of payload is
// inferred from the copies that were seen. Everything is read by helper and not
// through typed pointers, so that one source serves fentry and kprobes.
#pragma once

#include "kernel.h"

// Arguments of a hooked function, by number from 1.
#if defined(FENTRY)
#define HOOK(name) SEC("fentry/" #name) int name(u64 *ctx)
#define ARGUMENT(n) (ctx[(n) - 1])
#elif defined(KPROBE)
#define HOOK(name) SEC("kprobe/" #name) int name(struct registers *ctx)
#if defined(__TARGET_ARCH_x86)
struct registers {
	u64 other[8], argument6, argument5, ax, argument4, argument3, argument2, argument1;
};
#define ARGUMENT(n) (ctx->argument##n)
#else
struct registers {
	u64 x[31];
};
#define ARGUMENT(n) (ctx->x[(n) - 1])
#endif
#else
#error "neither FENTRY nor KPROBE"
#endif

// LOCAL functions are verified for each of their calls, on any kernel.
#define LOCAL static __attribute__((noinline))

static u64 (*const get_current_task)(void) = (void *)35;
static long (*const get_stack)(void *ctx, void *to, u32 size, u64 flags) = (void *)67;

static long (*const get_func_arg)(void *ctx, u32 number, u64 *value) = (void *)183; // Linux 5.17

// Fields that not every kernel has, or that the other tier has no use for.
struct sk_buff___functions {
	u8 pkt_type : 3;
	unsigned long _skb_refdst;
	int skb_iif;
} CORE;

struct skb_shared_info___functions {
	u8 tx_flags;
	struct sk_buff *frag_list;
} CORE;

struct dst_entry {
	struct net_device *dev;
} CORE;

struct sock___functions {
	struct dst_entry *sk_dst_cache;
	u64 sk_route_caps;
} CORE;

struct tcp_sock___functions {
	u32 write_seq, snd_una, snd_nxt;
} CORE;

struct task_struct___functions {
	void *stack;
} CORE;

// The numbers of these are those of state.h; a test compares.
enum __attribute__((packed)) called {
	CALLED_UNKNOWN,
	CALLED_WRITE,
	CALLED_WRITEV,
	CALLED_SENDFILE,
	CALLED_SPLICE,
	CALLED_VMSPLICE,
	CALLED_ZEROCOPY,
	CALLED_URING_SEND,
	CALLED_URING_ZC,
	CALLED_URING_ZC_FIXED,
};

enum __attribute__((packed)) lies {
	LIES_UNKNOWN,
	LIES_LINEAR,
	LIES_KERNEL,
	LIES_USER,
	LIES_CACHE,
	LIES_DEVICE,
};

// What a fact is about.
enum __attribute__((packed)) fact_kind {
	FACT_SENT,	// TCP: bytes accepted from the application
	FACT_UNSENT,	// TCP: of those, never acknowledged when the socket ended
	FACT_DATAGRAM,	// UDP: a datagram on its way to IP
	FACT_SEGMENT,	// a packet cut up for a device without scatter-gather
	FACT_SUMMED,	// a packet made linear while it is cut up, to sum it
	FACT_LINEARIZE, // a packet made linear
	FACT_TAPPED,	// pages made private for a packet socket that looks at what is sent
	FACT_PRIVATE,	// pages made private for others
	FACT_PASS,	// read for a checksum
	FACT_XDP,	// copied for an XDP program
	FACT_TUN,	// handed to a program by a tun device
	FACT_WHOLE,	// the packet as a whole
	FACT_HEADER,	// the header of a packet whose payload the caller has copied
};

// Evidence, as in state.h: where splice took its pages from, and what was seen.
enum saw {
	FROM_CACHE = 1,
	FROM_READ = 2,
	FROM_WRITTEN = 3,
	FROM_SOCKET = 4,
	FROM_USER = 5,
	FROM_DIRECT = 6,
	FROM_MEMORY = 7,
	SAW_NO_SO_ZEROCOPY = 1 << 3,
	SAW_FRAGMENT = 1 << 4,
	SAW_NO_SG = 1 << 5,
	SAW_NO_CSUM = 1 << 6,
	SAW_PARTIAL = 1 << 7,
	SAW_LENT = 1 << 9,
	SAW_TAP_IN = 1 << 11,
	SAW_ENCAP = 1 << 12,
	SAW_ULP = 1 << 13,
	SAW_LOOPBACK = 1 << 15,
	SAW_FORWARDING = 1 << 16, // the device forwards, and the destination is no address of its own
	SAW_LOCAL = 1 << 17,	  // the destination is an address of the device
	SAW_CORKED = 1 << 22,	  // of a datagram that more than one call made
};

#define FRAMES 12

#define STRANGE (1ull << 63) // in place of a socket: nobody knows whose a packet is

struct fact_key {
	u64 socket;
	u64 frames[FRAMES]; // of copies: return addresses, the innermost first
	u32 device, netns;
	enum saw evidence;
	enum fact_kind kind;
	enum called api;
	enum lies class;
	u8 unused;
};

struct fact {
	u64 bytes, times;
};

// A part of a TCP stream, from start to the start of the next.
struct span {
	u32 start;
	u8 api, source, flags, unused;
};

#define SPANS 64
#define SPAN_STEPS 6
#define SPAN_LENT 1 // its pages were taken, not copied
#define SPAN_NO_SO_ZEROCOPY 2
#define SPAN_ULP 4
#define SPAN_NO_SG 8

// Copies of one group exclude each other: what one has copied another does not.
enum group {
	GROUP_FLAT,
	GROUP_TAP,
	GROUP_PRIVATE,
	GROUP_PASS,
	GROUP_OTHER,
	GROUP_HEADER,
	GROUPS,
};

struct owner {
	u64 id;
	u64 inode, cgroup;
	u32 netns, uid;
	u32 tgid, flags;
	u16 family, protocol, type;
	u16 local_port, remote_port;
	u16 unused;
	u8 local[16], remote[16];
	u8 comm[16];
	u32 most; // TCP: bytes that were accepted between two looks
};

#define OWNER_SHUT 1 // it sends no more: its sequence numbers count a FIN

// A hole is a part of a stream that was passed over: packets that are copied on
// several CPUs at a time come in another order than they were sent in.
struct hole {
	u32 start, end;
};

#define HOLES 4 // the newest

// Sequence numbers tell before from behind over half their range. Each time a stream has
// gone on by TURN, what lies further back than WAY is cut off or forgotten: as much is
// never under way.
#define TURN (1u << 24)
#define WAY (1u << 28)

// How far the copies of a group are.
struct progress {
	u32 edge; // up to here they count, but for holes
	u32 newest;
	struct hole holes[HOLES];
};

struct sender_state {
	struct owner owner;
	u32 sent;	// TCP: up to which FACT_SENT counts
	u32 acked, next;
	struct progress copies[8]; // TCP: by groups
	u32 device, netns;
	u32 turned;	// where the stream was when it was cut off last
	u32 newest;	// number of the newest span; span n is at[n % SPANS]
	u32 first;	// of the oldest that is not forgotten
	struct span at[SPANS];
};

// A lender is the socket whose application waits for a notice that pages are free.
struct lender {
	u64 sock, id;
	u8 api, unused[7];
};

// A tuple is how a socket is found by packets that have lost it on their way.
struct tuple {
	u8 from[16], to[16];
	u16 from_port, to_port; // in network order
	u32 protocol;
};

// What a thread is about to send.
struct calling {
	u64 sock;
	u8 api, source, flags;
	u8 corked; // it adds to a datagram that calls before it have begun
	u8 mixed;  // and one of those was of another API, or took from elsewhere
	u8 unused[3];
};

struct gone {
	u64 senders, facts, calls;
};

// Made beforehand, as kernels before 6.1 ask for of programs that may run anywhere.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct sender_state);
} senders SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 131072);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct owner);
} ended SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 65536);
	MAP_TYPE(key, struct fact_key);
	MAP_TYPE(value, struct fact);
} facts SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 65536);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct lender);
} lenders SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct calling);
} calls SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 32768);
	MAP_TYPE(key, struct tuple);
	MAP_TYPE(value, struct lender);
} tuples SEC(".maps");

// The addresses of connected sockets, folded: what neither comes from one nor goes to
// one is nobody's here.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 65536);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u8);
} ends SEC(".maps");

struct link_key {
	u32 netns, index;
};

struct link {
	u8 name[16], type[16];
	u64 operations; // of rtnetlink: their address
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, struct link_key);
	MAP_TYPE(value, struct link);
} links SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} wanted SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct sender_state);
} blank SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct gone);
} missing SEC(".maps");

// Settings, made by the loader before the programs are verified.
volatile const u64 code_cache_confirm;	 // page_cache_pipe_buf_confirm
volatile const u64 code_user_steal;	 // user_page_pipe_buf_try_steal
volatile const u64 code_written_release; // anon_pipe_buf_release
volatile const u64 code_generic_release; // generic_pipe_buf_release
volatile const u64 code_generic_steal;	 // generic_pipe_buf_try_steal
volatile const u64 data_ptype_all;	 // the list of packet sockets, until Linux 6.10
volatile const u64 data_hotdata;	 // net_hotdata, which has it until 6.12
volatile const u32 bit_so_zerocopy;	 // SOCK_ZEROCOPY, enum sock_flags
volatile const u32 bit_reserved;	 // PG_reserved, enum pageflags
volatile const u32 iter_bvec;		 // ITER_BVEC, enum iter_type
volatile const u32 has_task_regs;	 // the kernel has bpf_task_pt_regs
volatile const u32 only_wanted;		 // look at the processes in the map alone
volatile const u64 only_cgroup;
volatile const u32 only_device;

#define MISS(what)                                                                              \
	do {                                                                                    \
		u32 zero_ = 0;                                                                  \
		struct gone *gone_ = map_lookup(&missing, &zero_);                              \
		if (gone_)                                                                      \
			gone_->what++;                                                          \
	} while (0)

INLINE void state_fact(const struct fact_key *key, u64 bytes)
{
	struct fact *f = map_lookup(&facts, key);
	if (!f) {
		struct fact zero = {};
		map_update(&facts, key, &zero, BPF_NOEXIST);
		f = map_lookup(&facts, key);
		if (!f) {
			MISS(facts);
			return;
		}
	}
	__sync_fetch_and_add(&f->bytes, bytes);
	__sync_fetch_and_add(&f->times, 1);
}
