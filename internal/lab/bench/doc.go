// Package bench measures what the ways to send cost, by the size of one send, and
// from which size on those that lend memory are cheaper than those that copy.
//
// # What is measured
//
// Every way sends over the same connection, in turns: each once in every round,
// in an order that changes ([benchpair.Rounds]). One run is as many sends as take a
// few milliseconds, and lasts until the peer has acknowledged them; that the kernel
// says of the last ones that it has let go of the memory is waited for outside. The figure is CPU time for each byte; of all rounds the
// median is told, with an interval of 95 %.
//
// Hot sends one buffer, or one piece of a file, again and again. Cold goes through
// many, 256 MiB of them if the machine has the room, each in a piece of memory of
// its own, of which a send takes at least half. Files are in the page cache.
//
// CPU time is that of the whole process, whatever its threads, with what interrupts
// do on top of them where the kernel does not account that apart
// (CONFIG_IRQ_TIME_ACCOUNTING). In the laboratory the thread that answers in place of
// a peer is left out, and with it what the kernel does on its CPU: part of taking in
// acknowledgements, of freeing pages and of telling that they are free. [Report]
// says what is counted and what is not.
//
// # The laboratory and a real path
//
// The laboratory ([lab.Sink]) copies nothing behind a send, as a network card would
// not, but it neither maps memory for a device nor goes through an IOMMU nor takes
// an interrupt for what was sent. The gain it shows is the most that a card can have,
// and the crossover it finds the least that a card can need.
//
// Over a path that ends on this machine nothing can be concluded: the kernel copies
// lent pages when it delivers them, on the same CPUs.
//
// # Crossovers
//
// A crossover is where the ratio of two ways, within a round, comes to 1: on a line over
// the logarithm of the size through all ratios near the crossing, which is found once they
// are made to fall with the size. Its interval is where the ends of the ratio's intervals
// do so, which are taken to be off by another 5 % from run to run. A way that is not surely
// cheaper at the largest size has an interval without an upper end, and one that is surely
// dearer at 4 MiB never crosses. Sizes near the crossing are measured as long as there is
// time, and where two ways cost about the same at any size more rarely. Disturbance makes
// intervals wider; what was seen of it, the report says.
package bench
