// Package probe answers one question about a Linux host: can it transmit
// without copying the payload, and if not, what is in the way?
//
// It works in two steps that never mix. [Collect] gathers [Facts]: functional
// tests on throw-away sockets, files and pipes, ethtool and rtnetlink replies,
// limits, packet taps. It decides nothing. [Judge] turns facts into a [Report]
// and is a pure function: the same facts give the same report, byte for byte,
// on any machine. A [Record] of the facts can therefore be kept, attached to a
// bug report, or judged offline.
//
// Three rules hold throughout:
//
//   - A functional test decides before a feature flag, a flag before a version
//     number, and a version number alone decides nothing.
//   - What could not be determined is unknown, and says what would decide it.
//     It is never reported as good.
//   - Probing changes nothing: no setting, no module, no packet off the host.
//     Functional traffic stays on loopback. The probing thread gives up
//     CAP_NET_ADMIN and CAP_SYS_MODULE, the capabilities that make the kernel
//     load modules on a user's behalf. It has the first one back for a single
//     question, the IPsec policies of a path, asked only where the kernel
//     already listens for it.
//
// The package links only the standard library and golang.org/x/sys, loads no
// BPF, and can be imported by any Go library. Outside Linux it builds, and
// every answer is an error matching [errors.ErrUnsupported].
package probe
