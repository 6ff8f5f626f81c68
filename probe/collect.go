package probe

import "time"

// Options say what to look at beyond the host itself.
type Options struct {
	To   string // HOST[:PORT] to follow the device path to; "" for none
	From string // source address of the path, "" for the kernel's choice
	Dev  string // report only this device and what is below it; "" for all

	// Also holds further destinations to follow the path to. Their reports are
	// made by JudgePath.
	Also []Destination

	Dir       string // directory that files are served from; "" for none
	WriteTest bool   // allow temporary files in Dir

	PID int // judge the limits of this process; 0 for our own

	// ServiceUID and ServiceMemlock describe a service that does not run yet:
	// its limits are judged instead of our own. Nil leaves ours.
	ServiceUID     *uint32
	ServiceMemlock *uint64 // bytes

	Load Load // what limits are judged against; the zero value means DefaultLoad
}

// Destination is a peer that payload is sent to.
type Destination struct {
	To   string // HOST[:PORT]
	From string // source address, "" for the kernel's choice
}

// Load is the traffic a host is meant to carry. Limits are judged against it.
type Load struct {
	BandwidthBytesPerSec uint64        // of all connections together
	RTT                  time.Duration // time until a sent byte is acknowledged
	Connections          uint64
}

// DefaultLoad is assumed where nothing was said: 10 Gbit/s, 1 ms, 100
// connections. It stands for one server on a data-centre network and is stated
// in every report that uses it.
var DefaultLoad = Load{BandwidthBytesPerSec: 1_250_000_000, RTT: time.Millisecond, Connections: 100}
