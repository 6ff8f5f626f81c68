// What diagnosis keeps in the kernel: how programs call it, counted by process
// and pattern, and sockets as they are. Facts only, as in state.h.
#pragma once

#include "kernel.h"

#define MSG_MORE 0x8000
#define MSG_ZEROCOPY 0x4000000
#define TCP_NAGLE_OFF 1
#define TCP_NAGLE_CORK 2
#define SO_EE_ORIGIN_ZEROCOPY 5
#define SO_EE_CODE_ZEROCOPY_COPIED 1

// Calls by their numbers. A read and a write stand for their kin.
#if defined(__TARGET_ARCH_x86)
enum {
	NR_READ = 0, NR_PREAD = 17, NR_READV = 19, NR_RECVFROM = 45, NR_RECVMSG = 47, NR_COPY_FILE_RANGE = 326,
};
struct pt_regs___mode {
	unsigned long cs;
} CORE;
#define CALL_COMPAT(regs) ((READ((struct pt_regs___mode *)(regs), cs) & 0xffff) == 0x23) // __USER32_CS
#else
enum {
	NR_READ = 63, NR_PREAD = 67, NR_READV = 65, NR_RECVFROM = 207, NR_RECVMSG = 212, NR_COPY_FILE_RANGE = 285,
};
struct pt_regs___mode {
	u64 pstate;
} CORE;
#define CALL_COMPAT(regs) (READ((struct pt_regs___mode *)(regs), pstate) & 0x10) // PSR_MODE32_BIT
#endif

// enum pattern is what was seen of calls.
enum __attribute__((packed)) pattern {
	PATTERN_LOOP,		// written unchanged from where it had been read to
	PATTERN_REFUSED,	// sendfile, splice or copy_file_range failed
	PATTERN_FELL_BACK,	// LOOP between files for which that had failed
	PATTERN_ZEROCOPY,	// accepted with MSG_ZEROCOPY and SO_ZEROCOPY
	PATTERN_NO_OPTION,	// the same without SO_ZEROCOPY
	PATTERN_NO_BUFFERS,	// MSG_ZEROCOPY failed with ENOBUFS
	PATTERN_NO_PAGES,	// MSG_ZEROCOPY failed with EFAULT
	PATTERN_HEADER,		// sent by itself right before sendfile or splice
	PATTERN_SPLICE,		// from a pipe to a socket
	PATTERN_SEND_PAGES,	// sendfile or splice to a socket failed for the kind of pages
};

// enum party_kind is what is read or written.
enum __attribute__((packed)) party_kind {
	PARTY_OTHER,
	PARTY_FILE,   // that can be spliced from
	PARTY_PIPE,
	PARTY_TCP,
	PARTY_UDP,
	PARTY_UNIX,   // stream
};

struct call_key {
	u64 cgroup; // 0 unless groups are told apart
	u32 tgid;
	s32 error;
	u32 number; // of the call
	enum pattern pattern;
	enum party_kind source, target;
	u8 unused;
};

struct call_count {
	u64 calls, bytes;
	u64 small;	 // calls of less than small_send, of small_splice for SPLICE
	u64 inode;	 // of the socket, the last one
	u64 memory;	 // NO_BUFFERS: the most option memory, in bytes
	u64 locked;	 // NO_BUFFERS: pages locked by the user; SPLICE: the most pages of its pipes
	u64 limit;	 // NO_BUFFERS: RLIMIT_MEMLOCK in bytes
	u64 asked;	 // NO_BUFFERS: the least that was refused, in bytes
	u32 slots;	 // SPLICE: the least capacity of the pipe, in pages
	u32 unused;
	u8 comm[16];
};

// latency is of completions of MSG_ZEROCOPY.
#define LATENCY_STEPS 40
struct latency {
	u64 completed, copied; // copied: the kernel said so
	u64 most_ns;
	u64 steps[LATENCY_STEPS]; // by the power of two of nanoseconds
};

// read_key is where payload was read to: a page of memory.
struct read_key {
	u64 page;
	u32 tgid, unused;
};

#define SAMPLES 4

struct read_value {
	u64 start, length;
	u64 inode; // its address
	u64 sample[SAMPLES];
	enum party_kind party;
	u8 unused[7];
};

struct pair_key {
	u64 source, target; // addresses of inodes
	u32 tgid, unused;
};

struct pair_value {
	u32 number;
	s32 error;
};

struct send_key {
	u64 sk;
	u32 id, unused;
};

struct send_value {
	u64 at;
	u32 tgid; // 0: it was completed before the call returned
	u32 copied;
};

// socket_now is a socket as it is.
struct socket_now {
	u64 sk, inode, cgroup;
	u64 session; // the look at sockets that has seen it
	u64 sent, acked;
	u32 tgid, fd, netns, uid;
	u32 optmem, queued, sendbuf, optmem_max; // optmem_max: 0 if it is not known
	u32 unread, oldest, newest, next; // completions: queued entries, ids
	u16 family, protocol, local_port, remote_port;
	u16 timestamps;
	u8 state, zerocopy, naglings, mtu_probing, copied, known; // known: oldest and newest are
	u8 local[16], remote[16];
	u8 comm[16];
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_SIZE(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct call_key);
	MAP_TYPE(value, struct call_count);
} calls SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 1024);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct latency);
} latencies SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, struct read_key);
	MAP_TYPE(value, struct read_value);
} reads SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, struct pair_key);
	MAP_TYPE(value, struct pair_value);
} refused SEC(".maps");

// Keyed by the address of a socket: when something small was sent by itself.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, u64);
} headers SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, struct send_key);
	MAP_TYPE(value, struct send_value);
} sends SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} processes SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u64);
} uncounted SEC(".maps");

// A count that is new: too much for the stack.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct call_count);
} fresh SEC(".maps");

// Room for one socket that is read.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct socket_now);
} room SEC(".maps");

volatile u32 looking; // at the end of calls

volatile const u32 bit_so_zerocopy; // SOCK_ZEROCOPY, enum sock_flags
volatile const u32 only_processes;
volatile const u64 only_cgroup;
volatile const u32 by_cgroup;
volatile const u32 tracer;	  // the process that looks, which is not looked at unless asked for
volatile const u64 small_send;	  // bytes
volatile const u64 small_splice;  // bytes
