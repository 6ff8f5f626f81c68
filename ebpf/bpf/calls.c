// Diagnosis: how programs call the kernel to send, seen where calls return, and
// sockets as they are. Nothing here decides.

#include "calls.h"
#include "party.h"

char gpl[] SEC("license") = "GPL";

static u64 (*const get_current_cgroup_id)(void) = (void *)80;
static long (*const probe_read_user)(void *to, u32 size, const void *from) = (void *)112;

#define EIO 5
#define EBADF 9
#define EFAULT 14
#define EXDEV 18
#define EINVAL 22
#define ESPIPE 29
#define ENOSYS 38
#define EMSGSIZE 90
#define EOPNOTSUPP 95
#define ENOBUFS 105

#define HEADER_MOST 4096
#define HEADER_NS 100000000ull // behind which two sends are no pair
#define READ_LEAST 4096
#define EARLY_NS 100000000ull // behind which a completion is another socket's
#define PAGE 4096

INLINE bool wanted(void)
{
	u32 tgid = get_current_pid_tgid() >> 32;
	if (only_processes ? !map_lookup(&processes, &tgid) : tgid == tracer)
		return 0;
	return !only_cgroup || get_current_cgroup_id() == only_cgroup;
}

INLINE struct call_count *note(u32 number, u8 pattern, s32 error, const struct party *source, const struct party *target, s64 bytes)
{
	struct call_key key = {
		.tgid = get_current_pid_tgid() >> 32, .error = error, .number = number, .pattern = pattern,
		.source = source ? source->kind : PARTY_OTHER, .target = target->kind,
	};
	if (by_cgroup)
		key.cgroup = get_current_cgroup_id();
	struct call_count *c = map_lookup(&calls, &key);
	if (!c) {
		u32 at = 0;
		c = map_lookup(&fresh, &at);
		if (!c)
			return NULL;
		__builtin_memset(c, 0, sizeof(*c));
		get_current_comm(c->comm, sizeof(c->comm));
		map_update(&calls, &key, c, BPF_NOEXIST);
		c = map_lookup(&calls, &key);
		if (!c) {
			u64 *n = map_lookup(&uncounted, &at);
			if (n)
				__sync_fetch_and_add(n, 1);
			return NULL;
		}
	}
	__sync_fetch_and_add(&c->calls, 1);
	if (bytes > 0)
		__sync_fetch_and_add(&c->bytes, bytes);
	if (target->sk)
		c->inode = target->number;
	return c;
}

// sample reads eight bytes of the payload at one of SAMPLES places.
INLINE u64 place(u64 start, u64 length, u32 i)
{
	return start + (i == 0 ? 0 : i == 1 ? length / 3 : i == 2 ? length / 3 * 2 : length - 8);
}

INLINE void remember(u32 tgid, u64 page, const struct read_value *r)
{
	struct read_key key = {.page = page, .tgid = tgid};
	map_update(&reads, &key, r, BPF_ANY);
}

INLINE void forget(u32 tgid, u64 page)
{
	struct read_key key = {.page = page, .tgid = tgid};
	map_delete(&reads, &key);
}

// was_read remembers where payload was read to, and what some of it is.
INLINE void was_read(const struct party *from, u64 start, s64 length)
{
	if (from->kind == PARTY_TCP) {
		u64 sk = (u64)from->sk;
		map_delete(&headers, &sk); // what follows answers this
	}
	if (length < READ_LEAST || from->kind == PARTY_OTHER || from->kind == PARTY_UDP)
		return;
	struct read_value r = {.start = start, .length = length, .inode = (u64)from->inode, .party = from->kind};
	for (u32 i = 0; i < SAMPLES; i++)
		if (probe_read_user(&r.sample[i], 8, (void *)place(start, length, i)))
			return;
	u32 tgid = get_current_pid_tgid() >> 32;
	remember(tgid, start / PAGE, &r);
	remember(tgid, start / PAGE + 1, &r);
}

// was_written counts what is written from where it had been read to. It takes no
// pointers: to verify a function by itself with those takes Linux 5.12.
GLOBAL int was_written(u64 inode, u64 socket, u32 call, u64 start, u64 length)
{
	struct party to = {.inode = (void *)inode, .number = socket, .kind = call >> 24, .sk = (void *)1};
	u32 number = call & 0xffffff, tgid = get_current_pid_tgid() >> 32;
	struct read_key key = {.page = start / PAGE, .tgid = tgid};
	struct read_value *found = map_lookup(&reads, &key);
	if (!found)
		return 0;
	struct read_value r = *found;
	if (start < r.start || start + length > r.start + r.length)
		return 0;
	bool same = 0;
	for (u32 i = 0; i < SAMPLES; i++) {
		u64 at = place(r.start, r.length, i), now = 0;
		if (at < start || at + 8 > start + length)
			continue;
		if (probe_read_user(&now, 8, (void *)at) || now != r.sample[i]) {
			forget(tgid, key.page); // the program has changed it
			return 0;
		}
		same = 1;
	}
	u64 end = start + length;
	forget(tgid, key.page);
	if (end == r.start + r.length) {
		forget(tgid, r.start / PAGE);
		forget(tgid, r.start / PAGE + 1);
	} else {
		remember(tgid, end / PAGE, &r);
	}
	if (!same)
		return 0;
	struct party from = {.kind = r.party};
	note(number, PATTERN_LOOP, 0, &from, &to, length);
	struct pair_key pair = {.source = r.inode, .target = inode, .tgid = tgid};
	struct pair_value *before = map_lookup(&refused, &pair);
	if (before)
		note(before->number, PATTERN_FELL_BACK, before->error, &from, &to, length);
	return 0;
}

// message is what a call that writes is about.
struct message {
	u64 parts;   // address of the vector, or of the only part
	u64 count;   // of parts; 0: there is no vector
	u64 asked;   // bytes
	u64 flags;
	bool whole;  // asked is known
};

struct iovec {
	u64 base, length;
};

struct user_msghdr {
	u64 name;
	u64 name_length;
	u64 parts, count;
};

#define PARTS 8

INLINE void sum(struct message *m)
{
	m->whole = m->count <= PARTS;
	for (u32 i = 0; i < PARTS; i++) {
		struct iovec v = {};
		if (i >= m->count)
			break;
		if (probe_read_user(&v, sizeof(v), (void *)(m->parts + i * sizeof(v)))) {
			m->whole = 0;
			return;
		}
		m->asked += v.length;
	}
}

INLINE void loop(struct party *to, u32 number, const struct message *m, s64 left)
{
	if (to->kind != PARTY_TCP && to->kind != PARTY_UNIX)
		return;
	if (!m->count) {
		was_written((u64)to->inode, to->number, number | (u32)to->kind << 24, m->parts, left);
		return;
	}
	for (u32 i = 0; i < PARTS; i++) {
		struct iovec v = {};
		if (i >= m->count || left <= 0 || probe_read_user(&v, sizeof(v), (void *)(m->parts + i * sizeof(v))))
			return;
		u64 n = (s64)v.length < left ? v.length : left;
		if (n >= PAGE / 4)
			was_written((u64)to->inode, to->number, number | (u32)to->kind << 24, v.base, n);
		left -= n;
	}
}

// Of its own, so that its paths are not those of who calls it.
GLOBAL u32 log2_of(u64 n)
{
	u32 power = 0;
	for (u32 bits = 32; bits; bits /= 2) {
		if (n >> bits) {
			power += bits;
			n >>= bits;
		}
	}
	return power;
}

static const struct latency no_latency; // too large for the stack of those who call

INLINE void completed(u32 tgid, u64 took, bool copied)
{
	struct latency *l = map_lookup(&latencies, &tgid);
	if (!l) {
		map_update(&latencies, &tgid, &no_latency, BPF_NOEXIST);
		l = map_lookup(&latencies, &tgid);
		if (!l)
			return;
	}
	__sync_fetch_and_add(&l->completed, 1);
	if (copied)
		__sync_fetch_and_add(&l->copied, 1);
	if (took > l->most_ns)
		l->most_ns = took;
	u32 step = log2_of(took);
	if (step < LATENCY_STEPS)
		__sync_fetch_and_add(&l->steps[step], 1);
}

INLINE void lent(u32 number, struct party *to, const struct message *m, s64 result)
{
	struct call_count *c;
	switch (result) {
	case -ENOBUFS:
		c = note(number, PATTERN_NO_BUFFERS, ENOBUFS, NULL, to, 0);
		if (c && m->whole) {
			u64 memory = optmem_of(to->sk);
			if (memory > c->memory)
				c->memory = memory;
			if (!c->asked || m->asked < c->asked) {
				c->asked = m->asked;
				c->locked = locked_pages();
				c->limit = memlock_limit();
			}
		}
		return;
	case -EFAULT:
		note(number, PATTERN_NO_PAGES, EFAULT, NULL, to, 0);
		return;
	}
	if (result <= 0)
		return;
	s64 bytes = number == NR_SENDMMSG ? 0 : result;
	if (!lends(to->sk)) {
		note(number, PATTERN_NO_OPTION, 0, NULL, to, bytes);
		return;
	}
	c = note(number, PATTERN_ZEROCOPY, 0, NULL, to, bytes);
	if (c && m->whole && m->asked < small_send)
		__sync_fetch_and_add(&c->small, 1);
	struct send_key key = {.sk = (u64)to->sk, .id = next_id(to->sk) - 1};
	struct send_value value = {.at = ktime_get_ns(), .tgid = get_current_pid_tgid() >> 32};
	// Whichever comes first, this or the completion on another CPU, is found by the other.
	if (!map_update(&sends, &key, &value, BPF_NOEXIST))
		return;
	struct send_value *early = map_lookup(&sends, &key);
	if (early && !early->tgid && (s64)(value.at - early->at) < (s64)EARLY_NS) {
		completed(value.tgid, 0, early->copied);
		map_delete(&sends, &key);
		return;
	}
	map_update(&sends, &key, &value, BPF_ANY);
}

// sent_header notes when the last small send was. To find the last one again costs
// much less than to put it into the map anew.
INLINE void sent_header(u64 sk, u64 now)
{
	u64 *at = map_lookup(&headers, &sk);
	if (at)
		*at = now;
	else
		map_update(&headers, &sk, &now, BPF_ANY);
}

INLINE void wrote(u32 number, struct party *to, const struct message *m, s64 result)
{
	if (m->flags & MSG_ZEROCOPY) {
		if (to->kind == PARTY_TCP || to->kind == PARTY_UDP)
			lent(number, to, m, result);
		return;
	}
	if (result <= 0 || number == NR_SENDMMSG)
		return;
	if (to->kind == PARTY_TCP) {
		u64 sk = (u64)to->sk, now = ktime_get_ns();
		if (result <= HEADER_MOST && !(m->flags & MSG_MORE) && !(naglings_of(to->sk) & (TCP_NAGLE_OFF | TCP_NAGLE_CORK)))
			sent_header(sk, now);
		else if (map_lookup(&headers, &sk))
			map_delete(&headers, &sk);
	}
	loop(to, number, m, result);
}

// moved is about a call that takes no memory of the program.
INLINE void moved(u32 number, struct party *from, struct party *to, s64 result)
{
	bool socket = to->kind == PARTY_TCP || to->kind == PARTY_UDP || to->kind == PARTY_UNIX;
	switch (result) {
	case -EINVAL: case -ENOSYS: case -EXDEV: case -EOPNOTSUPP: case -ESPIPE: case -EBADF: {
		struct pair_key pair = {.source = (u64)from->inode, .target = (u64)to->inode,
					.tgid = get_current_pid_tgid() >> 32};
		struct pair_value value = {.number = number, .error = -result};
		map_update(&refused, &pair, &value, BPF_ANY);
		note(number, PATTERN_REFUSED, -result, from, to, 0);
		return;
	}
	case -EIO: case -EMSGSIZE:
		if (socket)
			note(number, PATTERN_SEND_PAGES, -result, from, to, 0);
		return;
	}
	if (result <= 0 || !socket)
		return;
	u64 sk = (u64)to->sk;
	u64 *at = map_lookup(&headers, &sk);
	if (at) {
		u64 since = ktime_get_ns() - *at;
		map_delete(&headers, &sk);
		if (since < HEADER_NS)
			note(number, PATTERN_HEADER, 0, from, to, result);
	}
	if (number != NR_SPLICE || from->kind != PARTY_PIPE)
		return;
	struct call_count *c = note(number, PATTERN_SPLICE, 0, from, to, result);
	if (!c)
		return;
	if ((u64)result <= small_splice)
		__sync_fetch_and_add(&c->small, 1);
	u32 slots = slots_of(from->file);
	if (!c->slots || slots < c->slots)
		c->slots = slots;
	u64 pages = pipe_pages();
	if (pages > c->locked)
		c->locked = pages;
}

// The descriptors and the memory are looked at when a call has returned, which
// is when they were in use, unless another thread has closed them meanwhile.
SEC("tp_btf/sys_exit")
int sys_exit(u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	s64 result = ctx[1];
	u32 nr = CALL_NUMBER(regs);
	struct message m = {};
	struct party one = {}, two = {};
	u64 in, out;

	switch (nr) {
	case NR_READ: case NR_PREAD: case NR_RECVFROM: case NR_READV: case NR_RECVMSG:
	case NR_WRITE: case NR_WRITEV: case NR_SENDTO: case NR_SENDMSG: case NR_SENDMMSG:
	case NR_SENDFILE: case NR_SPLICE: case NR_COPY_FILE_RANGE:
		break;
	default:
		return 0;
	}
	if (!wanted() || CALL_COMPAT(regs))
		return 0;
	in = out = CALL_ARG1(regs);
	m.parts = CALL_ARG2(regs);
	switch (nr) {
	case NR_SENDFILE:
		in = CALL_ARG2(regs);
		break;
	case NR_SPLICE: case NR_COPY_FILE_RANGE:
		out = CALL_ARG3(regs);
		break;
	case NR_WRITE:
		m.asked = CALL_ARG3(regs);
		m.whole = 1;
		break;
	case NR_SENDTO:
		m.asked = CALL_ARG3(regs);
		m.flags = CALL_ARG4(regs);
		m.whole = 1;
		break;
	case NR_WRITEV: case NR_READV:
		m.count = CALL_ARG3(regs);
		break;
	case NR_SENDMSG: case NR_RECVMSG: {
		struct user_msghdr h = {};
		m.flags = CALL_ARG3(regs);
		if (probe_read_user(&h, sizeof(h), (void *)m.parts))
			return 0;
		m.parts = h.parts;
		m.count = h.count;
		break;
	}
	case NR_SENDMMSG:
		m.flags = CALL_ARG4(regs);
		break;
	}
	find_party(&one, in);
	switch (nr) {
	case NR_SENDFILE: case NR_SPLICE: case NR_COPY_FILE_RANGE:
		find_party(&two, out);
		if (one.file && two.file)
			moved(nr, &one, &two, result);
		return 0;
	case NR_READ: case NR_PREAD: case NR_RECVFROM: case NR_READV: case NR_RECVMSG:
		if (result <= 0)
			return 0;
		if (m.count) {
			struct iovec v = {};
			if (probe_read_user(&v, sizeof(v), (void *)m.parts))
				return 0;
			m.parts = v.base;
			if ((u64)result > v.length)
				result = v.length;
		}
		was_read(&one, m.parts, result);
		return 0;
	}
	if (one.kind == PARTY_OTHER || one.kind == PARTY_FILE || one.kind == PARTY_PIPE)
		return 0;
	if (m.flags & MSG_ZEROCOPY && nr == NR_SENDMSG)
		sum(&m);
	wrote(nr, &one, &m, result);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int inet_sk_error_report(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct completion last = {};
	if (!completion_at(&last, sk, 0))
		return 0;
	struct send_key key = {.sk = (u64)sk, .id = last.to};
	u64 now = ktime_get_ns();
	struct send_value *sent = map_lookup(&sends, &key);
	if (!sent) {
		// On the same machine it comes before the call has returned.
		struct send_value early = {.at = now, .copied = last.copied};
		if (!looking || !map_update(&sends, &key, &early, BPF_NOEXIST))
			return 0;
		sent = map_lookup(&sends, &key);
	}
	if (!sent || !sent->tgid)
		return 0;
	completed(sent->tgid, now - sent->at, last.copied);
	map_delete(&sends, &key);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int sched_process_fork(u64 *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx[1];
	u32 parent = get_current_pid_tgid() >> 32, tgid = child->tgid;
	if (map_lookup(&processes, &parent))
		map_update(&processes, &tgid, &tgid, BPF_ANY);
	else // the id was that of one who has ended
		map_delete(&processes, &tgid);
	return 0;
}

// struct bpf_iter__task_file: its places are part of the interface.
struct each_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u64 fd;
	struct file *file;
};

SEC("iter/task_file")
int each_socket(struct each_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	if (!file || !task)
		return 0;
	u32 tgid = task->tgid;
	if (only_processes ? !map_lookup(&processes, &tgid) : tgid == tracer)
		return 0;
	struct party p = {};
	classify(&p, file);
	if (p.kind != PARTY_TCP && p.kind != PARTY_UDP)
		return 0;
	u32 at = 0;
	struct socket_now *now = map_lookup(&room, &at);
	if (!now)
		return 0;
	// Of plain sockets the first stands for all that follow.
	u64 session = ctx->meta->session_id;
	if (!tells(p.sk) && now->session == session && now->tgid == tgid && now->netns == netns_of(p.sk))
		return 0;
	__builtin_memset(now, 0, sizeof(*now));
	now->tgid = tgid;
	now->fd = (u32)ctx->fd;
	describe_now(now, &p, task);
	now->session = session;
	if (seq_write(ctx->meta->seq, now, sizeof(*now)))
		now->session = 0; // there was no room, and it comes again
	return 0;
}
