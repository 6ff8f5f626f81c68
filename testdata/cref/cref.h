// The reference sender: what C gets out of each way to move bytes into a TCP
// connection. The library is measured against it, so it does the same calls with
// the best batching that the API allows, and nothing besides.

#ifndef CREF_H
#define CREF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A job is one run: total bytes over one connection, in pieces of size.
struct job {
	int sock;      // a connected TCP socket, blocking
	int file;      // the source of the ways that read a file, or -1
	int pipe[2];   // of splice and vmsplice
	char *memory;  // pool bytes: anonymous, or the mapped file
	size_t size;   // of a piece: what one call is asked to send
	size_t pool;   // pieces are taken from here, in turn; a multiple of size
	size_t pipe_size;
	uint64_t total;

	uint64_t bytes;       // taken by the kernel
	uint64_t calls;       // system calls that move payload
	uint32_t sends;       // zero-copy sends, as the kernel numbers them
	uint32_t completions; // of these, how many were notified
	uint32_t copied;      // of these, how many were said to be copied
	bool ring;            // notifications come by an io_uring
	unsigned undrained;   // pieces since the error queue was last read
};

// What a way needs.
enum need {
	NEEDS_MEMORY = 1,    // anonymous memory
	NEEDS_FILE = 2,      // the file's descriptor
	NEEDS_MAPPING = 4,   // the file mapped and faulted in
	NEEDS_PIPE = 8,
	NEEDS_ZEROCOPY = 16, // SO_ZEROCOPY
	NEEDS_RING = 32,     // an io_uring with the memory registered
};

// A way moves one piece, of n bytes at offset at of the pool, completely; more
// says that another will follow. It ends the process if it cannot.
struct way {
	const char *name;
	enum need needs;
	void (*piece)(struct job *j, size_t at, size_t n, bool more);
};

// find_way returns the way with a name, or NULL.
const struct way *find_way(const char *name);

// await_completions returns when no more than left zero-copy sends are without a
// notification.
void await_completions(struct job *j, uint32_t left);

// open_ring makes an io_uring, do_uring sends a piece through it, and
// await_notifications returns when all sends are notified.
void open_ring(struct job *j);
void do_uring(struct job *j, size_t at, size_t n, bool more);
void await_notifications(struct job *j);

// die ends the process with what was tried, and errno.
_Noreturn void die(const char *what);

#endif
