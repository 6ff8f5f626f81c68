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
//   - write, writev, mmap_write, read_write: the call copies. The completion is
//     released when it returns.
//   - msg_zerocopy, mmap_zerocopy over TCP: the kernel's notification, and the
//     peer's acknowledgement of the last byte. One alone is not enough: kernels
//     with net.ipv4.tcp_mtu_probing notify while the bytes are still to be sent
//     (explain early-completion).
//   - msg_zerocopy over UDP: the kernel's notification. The packet has left the
//     device, or was thrown away.
//   - sendfile, splice, vmsplice over TCP notify nobody: the peer's
//     acknowledgement of the last byte, which the socket is asked for. A stream
//     need not drain for it. A peer on this machine acknowledges what still waits
//     to be read as references to the same pages: its socket is asked as well. That
//     of a container, in another network namespace, cannot be: there the file must
//     not change before the peer has said by itself that it has it.
//   - sendfile, splice over UDP and unix sockets: an empty send queue. On a unix
//     socket that is when the peer has read everything.
//   - copy_file_range, reflink and [CopyFile] as a whole: the file may change when
//     the call returns; what shares extents is separated by the file system.
//   - [Relay] holds no memory of the caller's. A file that it reads may change
//     when the peer has acknowledged it.
//
// How long that takes is up to the peer: one that stops reading holds memory for
// as long as the connection lasts. [Pool] bounds it, and [Sender.Close] gives up
// after a time and says what it left.
//
// Memory stays referenced until it is released, whatever becomes of the caller's
// context: a context that ends ends the waiting and never the kernel's use. If the
// connection is closed before, the kernel goes on sending from the memory and
// nothing will say when it stops ([ErrAbandoned]): a Pool never gives such a
// buffer out again, and other memory stays referenced for 16 minutes, longer than
// TCP tries.
//
// A file is memory, too: what others write to it before the release is what is
// sent, or sent again. [FileOptions] has the choices: Snapshot copies, Immutable
// promises.
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
