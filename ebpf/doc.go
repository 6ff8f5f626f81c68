// Package ebpf observes what the kernel does with the payload that applications
// send: which bytes went to the device in the memory they came from, which were
// copied, where and why.
//
// [Open] starts a [Tracer]: from its return on, what is sent is counted.
// [Tracer.Run] waits and tells the end result, a [Summary]; [Tracer.Summaries]
// yields what was seen so far, again and again; [Tracer.Close] takes everything
// out of the kernel.
//
// A Tracer follows payload from the send call to the door of the device
// driver, and on where it stays on this machine, and counts in the kernel which
// memory it lies in at each place. Programs in the kernel only observe. What the
// counts amount to is judged by pure functions of this package.
//
// # What is counted
//
// A [Flow] is what one socket sent by one API. Bytes belong to the socket that
// sent them, whoever the kernel ran on top of when it transmitted them, and each
// byte of a stream counts once however often it is transmitted:
//
//	Bytes = ZeroCopiedBytes + CopiedBytes + UnknownBytes
//
// What was not seen is unknown, never guessed, and Summary.Incomplete says in
// sentences what could not be seen. A [Cause] names why bytes were copied, by an
// id of the catalogue in package probe, and where; causes may overlap, since a
// byte can be copied twice. Expected causes are what the call or the path is made
// of: write copies, and so does delivery on the same machine.
//
// # Tiers
//
// How much is seen depends on how the kernel lets itself be looked at. [Probe]
// tries each way to attach, [NewPlan] says which [Tier] would be taken and which
// hooks it has, and [Tracer.Hooks] what became of each. [TierNone] uses no BPF and
// needs no privilege. The others need CAP_BPF and CAP_PERFMON, or root, and the
// error of Open is a [PermissionError] without them. Where the kernel hides the
// addresses of its functions they need CAP_SYSLOG, too.
//
// # What it leaves
//
// Nothing is pinned: all of it ends with Close, or with the process, however that
// ends. No foreign error queue is read, no packet socket opened, no setting
// changed.
package ebpf
