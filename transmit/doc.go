// Package transmit moves bytes out of a process in the way that costs least on
// the host, the path and for the data at hand, and says when the memory or file
// they came from may change again.
//
// [Select] decides: a pure function of what package probe found and of the
// transfer, whose plan says what lost and why. A [Sender] drives the plan on an
// ordinary connection, [Relay] from one connection to another, [CopyFile] from
// file to file.
//
// # When may the memory be used again?
//
// A send that does not copy leaves the memory to the kernel. Each send returns a
// [Completion]; the memory is the caller's again when it is released, and not
// when the send returns. What releases it depends on the [Backend]:
//
//   - write, writev, mmap_write, read_write and copy_file_range copy: the
//     completion is released when the call returns.
//   - msg_zerocopy and mmap_zerocopy: the kernel's notification, and over TCP the
//     peer's acknowledgement as well, since some kernels notify too early
//     (explain early-completion).
//   - sendfile, splice and vmsplice notify nobody: over TCP the peer's
//     acknowledgement of the last byte releases, over UDP an empty send queue.
//     A file must not change before that.
//
// Memory stays referenced until then, whatever becomes of the caller's context:
// a context that ends ends the waiting and never the kernel's use.
//
// # Never silent, never wrong
//
// Where a way is refused the next best goes on at the byte where it stopped, and
// the first such step on a connection is told, see [Downgrade]. What the kernel
// is known to send wrongly is not done.
//
// The package links only the standard library and golang.org/x/sys. Outside
// Linux it builds and copies, and says so.
package transmit
