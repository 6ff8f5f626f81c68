// Package benchpair compares ways to do the same work on a machine that is not
// quiet.
//
// Speed drifts there by more than the ways differ: another process, the clock of
// the CPU, the heat of the caches. So the ways run in turns ([Rounds]), each once
// in every round and each at every place in the order equally often, and what is
// compared is the ratio of two ways within a round ([Compare]): both have met
// about the same machine.
//
// Of the ratios of all rounds the median is told, with an interval that holds the
// true median with a confidence of at least 95 % ([Interval]). It is made of order
// statistics and supposes nothing about how the ratios are distributed but that
// rounds do not depend on each other. It needs six rounds at least; ten or more
// are a good number.
//
// CPU time ([Process], [Thread]) is the steadier measure of two: it does not count
// the time that others have the CPU, though it does count what they evict from
// the caches. On Linux it includes the softirq work that is done on top of the
// process, its own or not, unless the kernel accounts interrupts apart
// (CONFIG_IRQ_TIME_ACCOUNTING).
package benchpair
