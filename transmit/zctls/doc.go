// Package zctls is TLS whose handshake and receiving crypto/tls does, and whose
// sending the kernel: files go out by sendfile(2), encrypted on the way, instead of
// through the process.
//
//	l = zctls.NewListener(l, config, transmit.ConnOptions{})
//	err := http.Serve(l, handler)
//
// After the handshake the key of what is sent is taken from crypto/tls's key log and
// handed to the kernel ([transmit.EnableKTLS]). That takes TLS 1.3 and a kernel with
// TLS, whose module is loaded (modprobe tls); where either is missing crypto/tls goes on
// with both directions, the program works as before, and [Conn.Fallback] says why.
//
// # What it saves
//
// Encryption reads every byte and writes it elsewhere, in the kernel as in the process
// (explain kernel-crypto): this is no zero-copy. It saves the copy out of the page
// cache and that into the socket.
//
// # What cannot be done
//
//   - Keys are never updated. A peer that asks for that with a KeyUpdate message that
//     wants an answer ends the connection's sending: [ErrKeyUpdate]. Peers do so after
//     hundreds of gigabytes, if at all. Neither does this side ask: of what AES-GCM
//     allows under one key, 388 GB (RFC 8446, 5.5), nobody keeps count.
//   - Alerts other than close_notify are not sent: the peer of a connection that fails
//     sees it end without one.
//   - Session tickets are not sent by servers, as their records would be numbered by
//     crypto/tls: clients shake hands in full each time. Resumption with TLS 1.2 is off
//     as well, for servers on kernels with TLS.
//   - TLS 1.2 is left to crypto/tls, with its renegotiation.
//   - HTTP/2 is not for this: net/http asks for a *tls.Conn. Leave "h2" out of
//     tls.Config.NextProtos. Requests have no TLS field; http.Server.ConnContext can
//     keep [Conn.ConnectionState].
package zctls
