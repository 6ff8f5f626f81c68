// Package zchttp keeps net/http's ways to send a body without copying it open, and
// says what closes them.
//
// A server that listens through [transmit.WrapListener] sends what its handlers
// copy to their http.ResponseWriter in the best way there is: files, pipes,
// connections and a [transmit.Body]. Handlers need no change. It takes that the
// copy reaches the server's ResponseWriter as a call of its method ReadFrom, on
// HTTP/1 without TLS, with a Content-Length. This package is for what is in between:
//
//   - [Copy] is io.Copy to an http.ResponseWriter. It finds the way through wrappers
//     that allow it, and sets Content-Length where the size of the source is known.
//   - [Wrap] gives a handler a ResponseWriter on which io.Copy, http.ServeContent and
//     http.ServeFile do the same.
//   - [Recorder] is the wrapper that most middleware needs: it knows the status and
//     counts the bytes, and hides nothing.
//   - [CheckMiddleware] is for tests: does a middleware keep the way open?
//   - [FileServer] serves files of an fs.FS, from mappings that are kept if asked to;
//     [ServeBody] a transmit.Body.
//   - [Explain] says why a response is copied.
//
// # The rule for wrappers
//
// A wrapper of an http.ResponseWriter that has no ReadFrom loses the way, even with
// Unwrap: net/http does not look there (Go 1.26, and nor does io.Copy). Going round
// a wrapper is wrong if it hashes, compresses or counts what is written to it. So a
// wrapper does one of these:
//
//   - It implements io.ReaderFrom, and does there what it does in Write. A hash or a
//     compressor must see the bytes and has no ReadFrom; a counter adds what ReadFrom
//     of the wrapped writer returns: it calls [Copy], or embeds [Recorder].
//   - It implements Unwrap, and declares that it does not look at the body: its
//     method PassThrough() bool returns true. The first bytes of a body, up to 512,
//     are written to it, so that what it does at the first Write happens; all others
//     go round it.
//
// All others get every byte by Write, as ever.
//
// # What cannot be done
//
// net/http copies a response without Content-Length itself, to cut it in chunks, and
// never calls ReadFrom for it; set the length, or use Copy. The head of a response
// and the first 512 bytes of its body are copied by net/http in any case. TLS
// encrypts in the process, and HTTP/2 cuts bodies in frames of its own: both copy.
// http.TimeoutHandler keeps the whole body in memory until the handler returns.
package zchttp
