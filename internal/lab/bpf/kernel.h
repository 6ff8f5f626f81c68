// The part of the kernel's BPF interface that the sink uses: types, the fields
// of the socket buffer's context, helpers by their number (enum bpf_func_id of
// include/uapi/linux/bpf.h), and the way a map is declared to a loader. Written
// out here so that the object does not depend on installed headers.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define MAP_SIZE(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name

#define htons(x) ((u16)__builtin_bswap16((u16)(x)))
#define ntohs(x) htons(x)
#define htonl(x) ((u32)__builtin_bswap32((u32)(x)))
#define ntohl(x) htonl(x)

// READ_ONCE is for words that another CPU changes while they are looked at.
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

// enum bpf_map_type
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_QUEUE 22
#define BPF_MAP_TYPE_RINGBUF 27

#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_RB_FORCE_WAKEUP 2

// Verdicts of include/uapi/linux/pkt_cls.h. STOLEN frees the packet as consumed;
// SHOT would count it as dropped and show in tools that look for drops.
#define TC_ACT_STOLEN 4

// The kernel knows this structure by name. Linux 5.1.
struct bpf_spin_lock {
	u32 val;
};

// The context of a classifier. Its offsets are fixed; fields that are not used
// here are left out at the end.
struct __sk_buff {
	u32 len;
	u32 not_used_1[18];
	u32 data;
	u32 data_end;
	u32 not_used_2[20];
	u32 gso_segs;
};

_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "fixed by the kernel");
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_segs) == 164, "fixed by the kernel");

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*const ktime_get_ns)(void) = (void *)5;
static long (*const skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags) = (void *)9;
static long (*const clone_redirect)(struct __sk_buff *skb, u32 ifindex, u64 flags) = (void *)13;
static s64 (*const csum_diff)(const void *from, u32 from_size, const void *to, u32 to_size, u32 seed) = (void *)28;
static long (*const map_push)(void *map, const void *value, u64 flags) = (void *)87;
static long (*const map_pop)(void *map, void *value) = (void *)88;
static long (*const spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*const spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const ringbuf_output)(void *ringbuf, const void *data, u64 size, u64 flags) = (void *)130;
