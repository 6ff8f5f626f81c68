#define _GNU_SOURCE
#include "cref.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// ENTRIES is the size of the ring; there is one request at a time, and notifications
// of those before it.
#define ENTRIES 64

static struct {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
} ring;

static void *ring_map(size_t length, off_t at)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, at);
	if (p == MAP_FAILED)
		die("mmap of a ring");
	return p;
}

void open_ring(struct job *j)
{
	struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 4096};
	ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
	if (ring.fd < 0)
		die("io_uring_setup");
	size_t sq = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	char *m = ring_map(sq > cq ? sq : cq, IORING_OFF_SQ_RING);
	ring.sqes = ring_map(p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_tail = (unsigned *)(m + p.sq_off.tail);
	ring.sq_mask = (unsigned *)(m + p.sq_off.ring_mask);
	ring.sq_array = (unsigned *)(m + p.sq_off.array);
	ring.cq_head = (unsigned *)(m + p.cq_off.head);
	ring.cq_tail = (unsigned *)(m + p.cq_off.tail);
	ring.cq_mask = (unsigned *)(m + p.cq_off.ring_mask);
	ring.cqes = (struct io_uring_cqe *)(m + p.cq_off.cqes);
	struct iovec all = {j->memory, j->pool};
	if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &all, 1) < 0)
		die("IORING_REGISTER_BUFFERS");
	j->ring = true;
}

static void enter(unsigned submit)
{
	while (syscall(SYS_io_uring_enter, ring.fd, submit, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		if (errno != EINTR)
			die("io_uring_enter");
}

// reap takes in all answers, and returns whether that to a request was among them.
static bool reap(struct job *j, int *res)
{
	bool answered = false;
	unsigned head = *ring.cq_head;
	for (; head != __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE); head++) {
		struct io_uring_cqe *c = &ring.cqes[head & *ring.cq_mask];
		if (c->flags & IORING_CQE_F_NOTIF) {
			j->completions++;
			if ((unsigned)c->res >> 31) // IORING_NOTIF_USAGE_ZC_COPIED
				j->copied++;
			continue;
		}
		answered = true;
		*res = c->res;
		if (c->flags & IORING_CQE_F_MORE)
			j->sends++;
	}
	__atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
	return answered;
}

void do_uring(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	while (n > 0) {
		unsigned tail = *ring.sq_tail, i = tail & *ring.sq_mask;
		struct io_uring_sqe *s = &ring.sqes[i];
		memset(s, 0, sizeof *s);
		s->opcode = 47; // IORING_OP_SEND_ZC
		s->fd = j->sock;
		s->addr = (uintptr_t)(j->memory + at);
		s->len = (unsigned)n;
		s->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
		s->ioprio = 1 << 2 | 1 << 3; // IORING_RECVSEND_FIXED_BUF, IORING_SEND_ZC_REPORT_USAGE
		ring.sq_array[i] = i;
		__atomic_store_n(ring.sq_tail, tail + 1, __ATOMIC_RELEASE);
		j->calls++;
		enter(1);
		int res;
		while (!reap(j, &res))
			enter(0);
		if (res <= 0) {
			errno = -res;
			die("IORING_OP_SEND_ZC");
		}
		j->bytes += (uint64_t)res;
		at += (size_t)res;
		n -= (size_t)res;
	}
}

void await_notifications(struct job *j)
{
	int res;
	while (reap(j, &res), j->completions < j->sends)
		enter(0);
}
