// What the tracer keeps in the kernel: sockets, counters and packets under way.
// Facts only: which cause they amount to is decided above, in Go, by functions
// that can be tested without a kernel.
#pragma once

#include "kernel.h"

// enum api is what the application asked for.
enum __attribute__((packed)) api {
	API_UNKNOWN,
	API_WRITE,	 // write, send, sendto
	API_WRITEV,	 // writev, sendmsg, sendmmsg
	API_SENDFILE,
	API_SPLICE,
	API_VMSPLICE,	 // splice of pages that vmsplice put into the pipe
	API_ZEROCOPY,	 // MSG_ZEROCOPY
	API_URING_SEND,
	API_URING_ZC,
	API_URING_ZC_FIXED,
};

// enum class is the kind of memory that payload lies in.
enum __attribute__((packed)) class {
	CLASS_UNKNOWN,
	CLASS_LINEAR,	 // the packet's own head: written by the CPU
	CLASS_KERNEL,	 // a page of the kernel's: written by the CPU, or a device
	CLASS_USER,	 // an anonymous page of a process, or the zero page
	CLASS_CACHE,	 // a page of a file
	CLASS_DEVICE,	 // device memory, which the CPU cannot read
};

// enum kind says what a counter counts.
enum __attribute__((packed)) kind {
	KIND_SENT,	 // bytes accepted from the application
	KIND_QUEUED,	 // payload that entered its first device, once
	KIND_DOOR,	 // payload at the door of that device's driver, once
	KIND_LOWER,	 // payload at the door of a device below, once
	KIND_AFTER,	 // payload that met something behind a door
	KIND_AGAIN,	 // payload that entered its first device again: retransmitted
	KIND_ABSORBED,	 // payload of packets that were merged into the one that met something
	KIND_UNSEEN,	 // bytes accepted from the application while nobody looked
	KIND_UNDER_WAY,	 // payload of packets that are gone without a trace behind a door
};

// enum evidence is what was seen together with the payload.
enum evidence {
	// Where splice took its pages from: three bits.
	SOURCE_CACHE = 1,    // a file's page cache
	SOURCE_READ = 2,     // read into pages made for it
	SOURCE_WRITTEN = 3,  // written into the pipe
	SOURCE_SOCKET = 4,   // received
	SOURCE_USER = 5,     // lent by vmsplice
	SOURCE_DIRECT = 6,   // read past the page cache, O_DIRECT, by a device or by the CPU
	SOURCE_MEMORY = 7,   // the same from a file that is nowhere but in memory: by the CPU
	SOURCE_MASK = 7,

	SEEN_NO_SO_ZEROCOPY = 1 << 3, // MSG_ZEROCOPY without SO_ZEROCOPY
	SEEN_FRAGMENT = 1 << 4,	      // the packet is an IP fragment
	SEEN_NO_SG = 1 << 5,	      // the device has no scatter-gather
	SEEN_NO_CSUM = 1 << 6,	      // nor a checksum for this family
	SEEN_PARTIAL = 1 << 7,	      // the checksum is left to the device
	SEEN_GSO = 1 << 8,	      // entered as a packet of several segments
	SEEN_LENT = 1 << 9,	      // pages lent by an application, who is told when they are free
	SEEN_TAP = 1 << 10,	      // a packet socket takes what the device sends
	SEEN_TAP_IN = 1 << 11,	      // a packet socket takes what the device receives
	SEEN_ENCAP = 1 << 12,	      // inside a tunnel
	SEEN_ULP = 1 << 13,	      // the socket has an upper layer protocol
	SEEN_RECEIVED = 1 << 14,      // the packet entered a receive path of this machine
	SEEN_LOOPBACK = 1 << 15,      // the device is lo

	// What a packet met: of KIND_AFTER.
	MET_SOCKET = 1 << 16,	// it reached a socket
	MET_READER = 2 << 16,	// it was copied to a reader
	MET_FREED = 3 << 16,	// it was freed
	MET_DROPPED = 4 << 16,	// it was dropped
	MET_QUEUE = 5 << 16,	// it entered another device
	MET_MASK = 7 << 16,

	SEEN_XDP = 1 << 20,	// a generic XDP program looks at what the device receives
	SEEN_SAMPLED = 1 << 21, // in one of the windows in which the tracer looked
	SEEN_CORKED = 1 << 22,	// of a datagram that more than one call made
	SEEN_OPENING = 1 << 23, // sent by a call that opened the connection
	SEEN_STAMP = 1 << 24,	// a timestamp is to come back with a clone of the packet
	SEEN_STAMPED = 1 << 25, // it did, and was copied for that
	SEEN_TAP_OUT = 1 << 26, // a packet socket takes what a device further on sends: with MET_QUEUE
};

struct counter_key {
	u64 socket;	 // struct socket_facts.id
	u64 where;	 // code address, of MET_FREED and MET_DROPPED
	u32 device;	 // interface index
	enum evidence evidence;
	enum kind kind;
	enum api api;
	enum class class;
	enum class was; // the class when it entered its first device
	u32 netns;	 // of the device, see netns_of
	u32 stack, unused; // one more than the number of the stack, if it was kept
};

struct counter {
	u64 bytes, packets;
	u64 lent_bytes; // of KIND_AFTER: those that had not been copied at the door
};

// A run is a part of a TCP stream, from start to the start of the next.
struct run {
	u32 start;
	u8 api, class, source, flags;
};

#define RUNS 256 // a power of two, and that of
#define RUN_STEPS 8
#define RUN_GSO 1
#define RUN_NO_SO_ZEROCOPY 2
#define RUN_ULP 4
#define RUN_OPENING 16 // the call opened the connection
#define RUN_UNSEEN 8 // sent, or queued, while nobody looked: of no API and class that are known

// Sequence numbers tell before from behind over half their range. Each time a stream has
// gone on by TURN, runs that were not the newest two times ago are forgotten: none of
// their payload is under way, and no run that is left began more than four TURN ago.
#define TURN (1u << 28)

struct runs {
	u32 last;  // number of the newest; run n is at[n % RUNS]
	u32 first; // of the oldest that may be looked for
	u32 mark;  // of the newest when the stream was at turned,
	u32 turned;
	struct run at[RUNS];
};

// socket_facts are what remains of a socket when it is closed.
struct socket_facts {
	u64 id;		// never used twice
	u64 inode;	// of socket:[N] in /proc/PID/fd
	u64 cgroup;	// id in the unified hierarchy
	u32 netns, uid;
	u32 tgid, flags;
	u16 family, protocol, type;
	u16 local_port, remote_port;
	u16 unused;
	u8 local[16], remote[16];
	u8 comm[16];
};

struct socket_state {
	struct socket_facts facts;
	// UDP has numbers of its own, of the bytes of all datagrams in a row.
	u32 sent;	// the sequence number up to which KIND_SENT counts
	u32 queued;	// up to which KIND_QUEUED counts
	u32 door;	// TCP: up to which KIND_DOOR counts
	u32 device;	// the first device of the newest packet
	u32 window;	// the one it was last met in
	u32 guessed;	// TCP: of a call that has not ended and is not known, counted for the one before
	u64 acked;	// TCP: tcp_sock.bytes_acked when sent was read
	u64 caller, message; // TCP: thread that is sending, and what; 0 at the end of the call
	// UDP: the packet that was queued last, if it has not come to the door.
	u64 waiting;
	u32 waiting_at, waiting_payload, waiting_mark, waiting_device;
	struct runs asked; // by API, as the application sent
	struct runs seen;  // by class, as packets entered their first device
};

#define SOCKET_CLOSED 1
#define SOCKET_SHUT 2 // it sends nothing any more: the rest of its numbers is a FIN

// base is a TCP socket that has not been seen sending.
struct base {
	u64 acked;
	u32 seq, tgid;
	u8 comm[16];
};

struct lower_key {
	u64 socket;
	u32 device, netns;
};

// flight is a packet with payload that has passed the door of a driver.
struct flight {
	u64 packet; // packet_number, 0 where there is none
	u64 sock, id;
	u32 seq, payload;
	u32 bytes;	// of the payload: those that passed the door for the first time
	u32 lent_bytes; // in pages that are not the kernel's
	u32 device, netns;
	u32 evidence;
	u8 api, class, met, datagram;
	u32 ingress;
	u32 mark; // see read_mark
	u32 other_bytes, other_lent; // of bytes and lent_bytes: those of another API
	u8 other_api, other_class;
	u8 queued;	// a datagram that waits at its first device
	u8 unused;
	u32 at;		// of a datagram: its number in socket_state.queued
};

#define PACKET_V6 1
#define PACKET_PURE 2	// all of it is lent by applications

// share is what a packet has of one API's payload.
struct share {
	u32 bytes, lent;
	u8 api, class;
};

// piece is payload of one kind, gathered to be counted once.
struct piece {
	u64 bytes;
	u8 api, class, was, source, flags;
};

#define MAX_FRAGS 17 // MAX_SKB_FRAGS unless configured otherwise
#define FRAG_ROOM 32 // a power of two, so that a mask bounds an index

struct frag {
	u64 page;
	u32 len, offset;
};

// packet is what is read of a packet, with room for all that has to be
// addressed by an index.
struct packet {
	u64 id;
	u32 seq, number, mark, payload, linear, data_len; // number: of TCP, as in the header
	u32 device, netns, evidence;
	u32 at, from, left; // of walk: where it is,
	struct share last, other; // and what it has found
	u32 events;			   // how often it was used
	volatile u64 pointer;		   // see number_of
	u64 head;			   // where it begins, and, counted from there,
	u32 data, end;			   // its data, its end
	u16 network, transport;		   // and the headers that belong to the payload
	u32 len;
	u32 stack;			   // see counter_key
	u8 headers[40], shared[64];	   // as they are in memory
	u8 flags, frags, gso, protocol;
	u8 kind, inner, whole, unused;
	struct frag frag[FRAG_ROOM];
	struct piece piece;
	struct socket_state fresh;
};

// losses are what could not be counted.
struct losses {
	u64 sockets, counters, flights_in, flights_lost, unparsed, frags, bases, stacks;
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_SIZE(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct socket_state);
} sockets SEC(".maps");

// Sockets that may send while nobody looks. Full, it costs the bytes that those
// without a base send before they are first met.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 131072);
	MAP_SIZE(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct base);
} bases SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 131072);
	MAP_SIZE(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, u64);
	MAP_TYPE(value, struct socket_facts);
} closed SEC(".maps");

// Not one per CPU: a socket's packets are mostly handled by one CPU at a time,
// and on machines of hundreds of CPUs the copies of this map would take
// gigabytes.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 1048576);
	MAP_SIZE(map_flags, BPF_F_NO_PREALLOC);
	MAP_TYPE(key, struct counter_key);
	MAP_TYPE(value, struct counter);
} counters SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, struct lower_key);
	MAP_TYPE(value, u32);
} lower SEC(".maps");

// Packets under way, by their address. Packets may be freed where no tracepoint
// is: later ones then take their place. A table of buckets costs each packet a
// fifth of what a hash map does.
#define FLIGHT_WAYS 4
#define FLIGHT_BITS 14

struct flight_bucket {
	struct flight way[FLIGHT_WAYS];
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_ARRAY);
	MAP_SIZE(max_entries, 1 << FLIGHT_BITS);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct flight_bucket);
} flights SEC(".maps");

struct device_key {
	u32 netns, index; // netns: see netns_of
};

struct device {
	u8 name[16], type[16]; // type: that of its rtnetlink operations, if any
	u64 operations; // their address
	u32 netns, unused; // the number of the namespace in /proc
};

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, struct device_key);
	MAP_TYPE(value, struct device);
} devices SEC(".maps");

// The operation that a thread submitted last to io_uring.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} submitted SEC(".maps");

#define STACK_DEPTH 48

// Stacks of the kernel, where payload was met that had been copied. Made smaller
// where none are wanted.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_STACK_TRACE);
	MAP_SIZE(max_entries, 4096);
	MAP_TYPE(key, u32);
	MAP_SIZE(value_size, STACK_DEPTH * 8);
} stacks SEC(".maps");

// Processes to look at, if any.
struct {
	MAP_SIZE(type, BPF_MAP_TYPE_HASH);
	MAP_SIZE(max_entries, 16384);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, u32);
} processes SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 2);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct packet);
} scratch SEC(".maps");

struct {
	MAP_SIZE(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_SIZE(max_entries, 1);
	MAP_TYPE(key, u32);
	MAP_TYPE(value, struct losses);
} lost SEC(".maps");

// Settings, made by the loader before the programs are verified.
volatile const u64 code_cache_confirm;	  // page_cache_pipe_buf_confirm
volatile const u64 code_user_steal;	  // user_page_pipe_buf_try_steal
volatile const u64 code_written_release;  // anon_pipe_buf_release
volatile const u64 code_generic_release;  // generic_pipe_buf_release
volatile const u64 code_generic_steal;	  // generic_pipe_buf_try_steal
volatile const u32 bit_so_zerocopy;	  // SOCK_ZEROCOPY, enum sock_flags
volatile const u32 bit_reserved;	  // PG_reserved, enum pageflags
volatile const u32 bit_uptodate;	  // PG_uptodate
volatile const u32 iter_bvec;		  // ITER_BVEC, enum iter_type
volatile const u32 only_processes;	  // look at those in the map alone
volatile const u64 only_cgroup;
volatile const u32 only_device;
volatile const u32 keep_stacks;
volatile const u32 no_sends;  // there is no hook where a send call begins to fill packets
volatile const u32 call_ends; // there is a hook where each send call ends

// The number of the window in which the tracer looks. Odd windows are samples;
// between even ones, the first is 0, nothing is missed but at their edges.
volatile u32 window;

// room is where a program works: 0 that of packets, which may come at any time on
// top of 1, that of sends.
INLINE struct packet *room(u32 slot)
{
	struct packet *p = map_lookup(&scratch, &slot);
	if (p)
		p->events++;
	return p;
}

// first_argument returns that of a tracepoint as a number, which is what GLOBAL
// functions take of a pointer.
INLINE u64 first_argument(u64 *args)
{
	u64 number = 0;
	probe_read_kernel(&number, sizeof(number), args);
	return number;
}

// number_of returns any pointer as a number, where nothing else can run on this CPU
// meanwhile: with packets. To the verifier what comes from a map is a number.
INLINE u64 number_of(struct packet *p, const void *pointer)
{
	p->pointer = (u64)pointer;
	return p->pointer;
}

INLINE struct losses *losses(void)
{
	u32 zero = 0;
	return map_lookup(&lost, &zero);
}

#define LOSE(what)                                                                              \
	do {                                                                                    \
		struct losses *losses_ = losses();                                              \
		if (losses_)                                                                    \
			losses_->what++;                                                        \
	} while (0)

// keep_stack keeps where the kernel is, if that is wanted, and returns what a
// counter_key has of it.
INLINE u32 keep_stack(void *ctx)
{
	if (!keep_stacks)
		return 0;
	long id = get_stackid(ctx, &stacks, 0);
	if (id < 0) {
		LOSE(stacks);
		return 0;
	}
	return id + 1;
}

static const struct counter nothing; // not on the stack, of which there is little

// The time that the verifier takes is most of what a tracer takes to start. Much of
// it goes into functions that it has to look at again for each way that leads to
// them: those that are GLOBAL it looks at once, and what is behind a call of one,
// once. And much goes into each load of a pointer to a type of the kernel's, for
// which it looks in all of them: READ spares that where it is seldom run.
GLOBAL int count(struct counter_key *of, u64 bytes, u64 lent)
{
	if (!of)
		return 0;
	// Before Linux 6.2 what a GLOBAL function is given is no key to it.
	struct counter_key on_stack = *of, *key = &on_stack;
	struct counter *c = map_lookup(&counters, key);
	if (!c) {
		map_update(&counters, key, &nothing, BPF_NOEXIST);
		c = map_lookup(&counters, key);
		if (!c) {
			LOSE(counters);
			return 0;
		}
	}
	__sync_fetch_and_add(&c->bytes, bytes);
	__sync_fetch_and_add(&c->packets, 1);
	if (lent)
		__sync_fetch_and_add(&c->lent_bytes, lent);
	return 0;
}

// packet_number names a packet by its address. The verifier takes no products of
// pointers, but their differences are numbers to it.
INLINE u64 packet_number(const struct sk_buff *skb)
{
	u64 number = (u64)skb;
	__asm__ volatile("%0 -= %1" : "+r"(number) : "r"(&window));
	return number;
}

INLINE struct flight_bucket *flights_near(u64 packet)
{
	u32 bucket = packet * 0x9e3779b97f4a7c15 >> (64 - FLIGHT_BITS); // by the golden ratio
	return map_lookup(&flights, &bucket);
}

// find_way tells which way of a bucket the packet is in, none if it is
// FLIGHT_WAYS. To the verifier the answer is any: it looks at what follows once.
GLOBAL u32 find_way(struct flight_bucket *near, u64 packet)
{
	if (!near)
		return FLIGHT_WAYS;
#pragma unroll
	for (int i = 0; i < FLIGHT_WAYS; i++) {
		if (near->way[i].packet == packet)
			return i;
	}
	return FLIGHT_WAYS;
}

INLINE struct flight *find_flight(u64 packet)
{
	struct flight_bucket *near = flights_near(packet);
	if (!near)
		return NULL;
	u32 way = find_way(near, packet);
	if (way >= FLIGHT_WAYS)
		return NULL;
	HIDE(way);
	return &near->way[way % FLIGHT_WAYS];
}

// place_for returns where to put a flight: where the one before it with the same
// address is, or nothing, or some other.
INLINE struct flight *place_for(u64 packet, u32 any)
{
	struct flight_bucket *near = flights_near(packet);
	if (!near)
		return NULL;
	u32 way = find_way(near, packet);
	if (way >= FLIGHT_WAYS)
		way = find_way(near, 0);
	if (way >= FLIGHT_WAYS) {
		LOSE(flights_lost);
		way = any;
	}
	HIDE(way);
	return &near->way[way % FLIGHT_WAYS];
}

// turn forgets runs that are too far back to be told from what is to come.
INLINE void turn(struct runs *runs, u32 seq)
{
	struct run *newest = &runs->at[runs->last % RUNS];
	runs->first = runs->mark;
	runs->mark = runs->last;
	runs->turned = seq;
	if ((s32)(seq - newest->start) > (s32)(2 * TURN))
		newest->start = seq - 2 * TURN;
}

// restart forgets all runs: what lies before seq was not seen.
INLINE void restart(struct runs *runs, u32 seq)
{
	u32 n = ++runs->last;
	runs->at[n % RUNS] = (struct run){.start = seq - TURN, .flags = RUN_UNSEEN};
	runs->first = runs->mark = n;
	runs->turned = seq;
}

// find_run returns the number of the run that seq lies in, that of a run before
// the oldest known if it is older: see known.
GLOBAL u32 find_run(struct runs *runs, u32 seq)
{
	if (!runs)
		return 0;
	if ((s32)(seq - runs->turned) >= (s32)TURN)
		turn(runs, seq);
	u32 high = runs->last, low = high < RUNS ? 0 : high - (RUNS - 1);
	if ((s32)(runs->first - low) > 0)
		low = runs->first;
	if ((s32)(seq - runs->at[high % RUNS].start) >= 0)
		return high;
	if ((s32)(seq - runs->at[low % RUNS].start) < 0)
		return !low || runs->at[low % RUNS].flags & RUN_UNSEEN ? low : low - 1;
	// The run is low or one between it and high, which is not it.
	for (int i = 0; i < RUN_STEPS; i++) {
		u32 middle = low + (high - low) / 2;
		if ((s32)(seq - runs->at[middle % RUNS].start) >= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

INLINE bool known(const struct runs *runs, u32 number)
{
	return runs->last - number < RUNS && (s32)(number - runs->first) >= 0;
}
