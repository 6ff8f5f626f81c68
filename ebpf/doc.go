// Package ebpf observes what the kernel does with the payload that applications
// send: which bytes went to the device in the memory they came from, which were
// copied, where and why.
//
// A [Tracer] follows payload from the send call to the door of the device
// driver, and on where it stays on this machine, and counts in the kernel which
// memory it lies in at each place. Programs in the kernel only observe. What the
// counts amount to is judged by [Summarize], a pure function.
//
// Bytes belong to the socket that sent them, whoever the kernel ran on top of
// when it transmitted them, and each byte of a stream counts once however often
// it is transmitted. What was not seen is unknown, never guessed.
//
// Nothing is pinned: all of it ends with [Tracer.Close], or with the process,
// however that ends.
package ebpf
