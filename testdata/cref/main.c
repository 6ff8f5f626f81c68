// cref sends TOTAL bytes over a TCP connection in pieces of SIZE and prints one
// line of JSON about it:
//
//	cref [-p POOL] [-f FILE] WAY SIZE TOTAL [ADDR PORT]
//
// With ADDR (a number, of IPv4 or IPv6) and PORT it connects, with cubic and the
// kernel's other defaults; without, it uses descriptor 3, as it was set up.
//
// Pieces come from POOL bytes in turn, SIZE if not given: one piece again and
// again, hot in the caches. A pool larger than the caches makes them cold. The
// ways that read a file take them from the first POOL bytes of FILE, which is
// read into the page cache first; byte i of other pools is i + 7 * (i / SIZE).
//
// The clock runs from the first call until the peer has acknowledged everything
// and all completions are read.

#define _GNU_SOURCE
#include "cref.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIPE_SIZE (1 << 20) // fs.pipe-max-size of most machines
#define HANDED_OVER 3       // the descriptor of a socket that is connected already
#define LIMIT_SECONDS 120   // after which SIGALRM ends the process

_Noreturn static void usage(void)
{
	fputs("usage: cref [-p POOL] [-f FILE] WAY SIZE TOTAL [ADDR PORT]\n", stderr);
	exit(2);
}

static uint64_t number(const char *s)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	if (errno || *s < '0' || *s > '9' || *end || n == 0)
		usage();
	return n;
}

static double wall(void)
{
	struct timespec t;
	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
		die("clock_gettime");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage u;
	if (getrusage(RUSAGE_SELF, &u) < 0)
		die("getrusage");
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int connected(const char *addr, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *a;
	int err = getaddrinfo(addr, port, &hints, &a);
	if (err) {
		fprintf(stderr, "%s %s: %s\n", addr, port, gai_strerror(err));
		exit(2);
	}
	int s = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		die("socket");
	// The congestion control of the machine may pace.
	if (setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
		die("cubic");
	if (connect(s, a->ai_addr, a->ai_addrlen) < 0)
		die("connect");
	freeaddrinfo(a);
	return s;
}

static void open_file(struct job *j, const char *name)
{
	if (!name)
		usage();
	j->file = open(name, O_RDONLY | O_CLOEXEC);
	if (j->file < 0)
		die(name);
	off_t len = lseek(j->file, 0, SEEK_END);
	if (len < 0)
		die(name);
	if ((uint64_t)len < j->pool) {
		fprintf(stderr, "%s is shorter than the pool\n", name);
		exit(2);
	}
}

static void open_pipe(struct job *j)
{
	if (pipe2(j->pipe, O_CLOEXEC) < 0)
		die("pipe");
	int size = fcntl(j->pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
	if (size < 0)
		die("F_SETPIPE_SZ");
	j->pipe_size = (size_t)size;
}

// map maps and faults in.
static char *map(size_t length, int prot, int flags, int file)
{
	char *p = mmap(NULL, length, prot, flags | MAP_POPULATE, file, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void prepare(struct job *j, enum need needs, const char *file)
{
	if (needs & (NEEDS_FILE | NEEDS_MAPPING))
		open_file(j, file);
	if (needs & NEEDS_FILE) // not used: it reads the file into the page cache
		map(j->pool, PROT_READ, MAP_SHARED, j->file);
	if (needs & NEEDS_MAPPING)
		j->memory = map(j->pool, PROT_READ, MAP_SHARED, j->file);
	if (needs & NEEDS_MEMORY) {
		// What is read from a file needs one buffer.
		size_t length = needs & NEEDS_FILE ? j->size : j->pool;
		j->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (j->memory == MAP_FAILED)
			die("mmap");
		// Else the result depends on how much memory the machine has in one
		// piece. EINVAL: a kernel without huge pages.
		if (madvise(j->memory, length, MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
			die("madvise");
		for (size_t at = 0, piece = 0; at < length; at += j->size, piece++)
			for (size_t i = at; i < at + j->size; i++)
				j->memory[i] = (char)(i + piece * 7);
	}
	if (needs & NEEDS_PIPE)
		open_pipe(j);
	if (needs & NEEDS_RING)
		open_ring(j);
	int one = 1;
	if (needs & NEEDS_ZEROCOPY && setsockopt(j->sock, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one) < 0)
		die("SO_ZEROCOPY");
	int flags = fcntl(j->sock, F_GETFL);
	if (flags < 0 || fcntl(j->sock, F_SETFL, flags & ~O_NONBLOCK) < 0)
		die("blocking socket");
}

// await_acknowledgement returns when the peer has acknowledged everything.
static void await_acknowledgement(int sock)
{
	int left;
	for (;;) {
		if (ioctl(sock, SIOCOUTQ, &left) < 0)
			die("SIOCOUTQ");
		if (left == 0)
			return;
		struct timespec pause = {.tv_nsec = 50000};
		nanosleep(&pause, NULL);
	}
}

static void run(struct job *j, const struct way *w)
{
	size_t at = 0;
	while (j->bytes < j->total) {
		uint64_t left = j->total - j->bytes;
		size_t n = left < j->size ? (size_t)left : j->size;
		w->piece(j, at, n, left > n);
		at += j->size;
		if (at >= j->pool)
			at = 0;
	}
	await_acknowledgement(j->sock);
	if (j->ring)
		await_notifications(j);
	else
		await_completions(j, 0);
}

int main(int argc, char **argv)
{
	struct job j = {.sock = HANDED_OVER, .file = -1, .pipe = {-1, -1}};
	const char *file = NULL;
	uint64_t pool = 0;
	for (int option; (option = getopt(argc, argv, "+p:f:")) != -1;) {
		if (option == 'p')
			pool = number(optarg);
		else if (option == 'f')
			file = optarg;
		else
			usage();
	}
	argc -= optind;
	argv += optind;
	if (argc != 3 && argc != 5)
		usage();
	const struct way *w = find_way(argv[0]);
	if (!w)
		usage();
	j.size = number(argv[1]);
	j.total = number(argv[2]);
	j.pool = pool < j.size ? j.size : pool - pool % j.size;
	if (argc == 5)
		j.sock = connected(argv[3], argv[4]);
	alarm(LIMIT_SECONDS);
	prepare(&j, w->needs, file);

	double cpu_before = cpu(), before = wall();
	run(&j, w);
	double seconds = wall() - before, cpu_seconds = cpu() - cpu_before;

	printf("{\"backend\":\"%s\",\"size\":%zu,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"bytes\":%" PRIu64
	       ",\"calls\":%" PRIu64 ",\"completions\":%" PRIu32 ",\"copied\":%" PRIu32 "}\n",
	       w->name, j.size, seconds, cpu_seconds, j.bytes, j.calls, j.completions, j.copied);
	return fflush(stdout) ? 1 : 0;
}
