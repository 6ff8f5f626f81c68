// Package zctest is for the tests of programs that mean to send without copying:
// it shows which system calls moved the payload, and fails the test when they are
// not the ones that were meant.
//
// A wrapper around a connection, a reader around a file, a middleware around an
// http.ResponseWriter: each can turn sendfile into a loop of reads and writes, and
// every byte still arrives. A test that compares bytes does not see it. This one
// does:
//
//	func TestServesBySendfile(t *testing.T) {
//		path := zctest.Copied(t)
//		f := open(t, "big.bin")
//		zctest.AssertSendfile(t, path.Conn, func() {
//			io.Copy(path.Conn, f) // the code under test
//		})
//	}
//
// # Calls
//
// [Record] lists the calls that the process makes while a function runs, each with
// what it read from, what it wrote to, and how much. [AssertSendfile],
// [AssertNoCopy] and [AssertFastPath] judge such a list.
//
// No privilege is needed. The test binary is started once more as a tracer, which
// seizes the threads of the test with ptrace(2), and lets them go when the
// function returns. If the tracer dies the test goes on, unharmed. Programs that
// the test starts are not traced.
//
// Where tracing is not possible the test is skipped, with a reason that begins with
// "needs": without Linux 5.3, where a seccomp filter or kernel.yama.ptrace_scope
// forbids it, or under strace or a debugger, since a thread has one tracer at most.
// No assertion passes because it could not look.
//
// # Paths
//
// Calls are half of the answer. The kernel may accept a zero-copy send and copy
// after all; over loopback it always does, when it delivers. [Copied] is such a
// path, which needs no privilege and has a peer that keeps a checksum. [Uncopied] is
// one on which the kernel really does not copy, and says so: a wire to a peer that
// takes packets off it without looking at payload, in network namespaces that exist
// for the test alone. That needs root.
//
// # What is linked
//
// The package belongs in tests. It imports testing, and a loader of BPF programs
// for Uncopied.
package zctest
