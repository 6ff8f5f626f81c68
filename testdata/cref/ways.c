#define _GNU_SOURCE
#include "cref.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// PARTS is how many parts writev sends a piece in: a header, a trailer and two
// halves of a body, say.
#define PARTS 4

// DRAIN_EVERY is after how many pieces msg_zerocopy reads the error queue. Finished
// sends wait there merged into one entry, so this need not be often.
#define DRAIN_EVERY 32

// STUCK_MS is how long a completion may be overdue.
#define STUCK_MS 10000

_Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

// drain reads the error queue until it is empty.
static void drain(struct job *j)
{
	j->undrained = 0;
	for (;;) {
		char control[256];
		struct msghdr m = {.msg_control = control, .msg_controllen = sizeof control};
		if (recvmsg(j->sock, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN)
				return;
			if (errno == EINTR)
				continue;
			die("error queue");
		}
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			struct sock_extended_err e;
			memcpy(&e, CMSG_DATA(c), sizeof e);
			if (e.ee_origin != SO_EE_ORIGIN_ZEROCOPY) {
				errno = (int)e.ee_errno;
				die("an entry of another origin in the error queue");
			}
			uint32_t n = e.ee_data - e.ee_info + 1; // wraps as the numbers do
			j->completions += n;
			if (e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
				j->copied += n;
		}
	}
}

void await_completions(struct job *j, uint32_t left)
{
	for (drain(j); j->sends - j->completions > left; drain(j)) {
		struct pollfd p = {.fd = j->sock}; // POLLERR is always asked for
		int r = poll(&p, 1, STUCK_MS);
		if (r < 0 && errno != EINTR)
			die("poll");
		if (r == 0) {
			errno = ETIMEDOUT;
			die("completions");
		}
	}
}

static void send_all(struct job *j, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t r = send(j->sock, p, n, MSG_NOSIGNAL);
		if (r < 0) {
			if (errno == EINTR)
				continue;
			die("send");
		}
		j->calls++;
		j->bytes += (uint64_t)r;
		p += r;
		n -= (size_t)r;
	}
}

static void do_write(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	send_all(j, j->memory + at, n);
}

static void do_writev(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	struct iovec parts[PARTS];
	size_t each = n / PARTS;
	for (size_t i = 0; i < PARTS; i++) {
		parts[i].iov_base = j->memory + at + i * each;
		parts[i].iov_len = i < PARTS - 1 ? each : n - i * each;
	}
	struct msghdr m = {.msg_iov = parts, .msg_iovlen = PARTS};
	ssize_t r;
	while ((r = sendmsg(j->sock, &m, MSG_NOSIGNAL)) < 0)
		if (errno != EINTR)
			die("sendmsg");
	j->calls++;
	j->bytes += (uint64_t)r;
	// A blocking socket takes less only when a signal comes between.
	send_all(j, j->memory + at + r, n - (size_t)r);
}

static void do_read_write(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	while (n > 0) {
		ssize_t r = pread(j->file, j->memory, n, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("pread");
		j->calls++;
		send_all(j, j->memory, (size_t)r);
		at += (size_t)r;
		n -= (size_t)r;
	}
}

static void do_sendfile(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	off_t off = (off_t)at;
	while (n > 0) {
		ssize_t r = sendfile(j->sock, j->file, &off, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("sendfile");
		j->calls++;
		j->bytes += (uint64_t)r;
		n -= (size_t)r;
	}
}

// empty_pipe splices n bytes out of the pipe. With SPLICE_F_MORE the last packet
// waits for what follows; without it, it goes at once.
static void empty_pipe(struct job *j, size_t n, bool more)
{
	unsigned flags = SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0);
	while (n > 0) {
		ssize_t r = splice(j->pipe[0], NULL, j->sock, NULL, n, flags);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("splice to socket");
		j->calls++;
		j->bytes += (uint64_t)r;
		n -= (size_t)r;
	}
}

static void do_splice(struct job *j, size_t at, size_t n, bool more)
{
	loff_t off = (loff_t)at;
	while (n > 0) {
		ssize_t r = splice(j->file, &off, j->pipe[1], NULL, n, SPLICE_F_MOVE | SPLICE_F_MORE);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("splice to pipe");
		j->calls++;
		n -= (size_t)r;
		empty_pipe(j, (size_t)r, more || n > 0);
	}
}

static void do_vmsplice(struct job *j, size_t at, size_t n, bool more)
{
	while (n > 0) {
		struct iovec v = {j->memory + at, n < j->pipe_size ? n : j->pipe_size};
		ssize_t r = vmsplice(j->pipe[1], &v, 1, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("vmsplice");
		j->calls++;
		at += (size_t)r;
		n -= (size_t)r;
		empty_pipe(j, (size_t)r, more || n > 0);
	}
}

static void do_msg_zerocopy(struct job *j, size_t at, size_t n, bool more)
{
	(void)more;
	while (n > 0) {
		ssize_t r = send(j->sock, j->memory + at, n, MSG_ZEROCOPY | MSG_NOSIGNAL);
		if (r < 0) {
			if (errno == EINTR)
				continue;
			if (errno != ENOBUFS || j->sends == j->completions)
				die("send with MSG_ZEROCOPY");
			// As much is outstanding as optmem_max or RLIMIT_MEMLOCK allow.
			await_completions(j, (j->sends - j->completions) / 2);
			continue;
		}
		j->calls++;
		j->sends++;
		j->bytes += (uint64_t)r;
		at += (size_t)r;
		n -= (size_t)r;
	}
	if (++j->undrained >= DRAIN_EVERY)
		drain(j);
}

static const struct way ways[] = {
	{"write", NEEDS_MEMORY, do_write},
	{"writev", NEEDS_MEMORY, do_writev},
	{"read_write", NEEDS_MEMORY | NEEDS_FILE, do_read_write},
	{"mmap_write", NEEDS_MAPPING, do_write},
	{"sendfile", NEEDS_FILE, do_sendfile},
	{"splice", NEEDS_FILE | NEEDS_PIPE, do_splice},
	{"vmsplice", NEEDS_MEMORY | NEEDS_PIPE, do_vmsplice},
	{"msg_zerocopy", NEEDS_MEMORY | NEEDS_ZEROCOPY, do_msg_zerocopy},
	{"io_uring_send_zc", NEEDS_MEMORY | NEEDS_RING, do_uring},
	{"mmap_zerocopy", NEEDS_MAPPING | NEEDS_ZEROCOPY, do_msg_zerocopy},
};

const struct way *find_way(const char *name)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	return NULL;
}
