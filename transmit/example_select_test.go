package transmit_test

import (
	"fmt"

	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// Which backend would send memory over TCP, and from which size on? With the report of
// [probe.Judge], transmit.ConditionsOf(report) is in the place of conditions; here they
// are of a kernel that has everything, and a card that has it too.
func ExampleSelect() {
	yes, no := true, false
	supported := func(ids ...string) map[string]probe.Feature {
		m := map[string]probe.Feature{}
		for _, id := range ids {
			m[id] = probe.Feature{ID: id, Status: probe.Supported}
		}
		return m
	}
	conditions := transmit.Conditions{
		OS:       "linux",
		Features: supported("sendfile.tcp", "splice.file-tcp", "msg_zerocopy.tcp4", "vmsplice"),
		Uplinks:  []transmit.Uplink{{Device: "eth0", ScatterGather: &yes, Checksum4: &yes, Checksum6: &yes, Tapped: &no}},
		Local:    &no,
	}
	transfer := transmit.Transfer{Source: transmit.SourceMemory, Protocol: transmit.TCP}
	plan := transmit.Select(conditions, transfer, transmit.SelectOptions{})
	fmt.Println(plan.At(1<<10), plan.At(1<<20))

	// Memory that is wanted back when the call returns can only be copied.
	transfer.Reuse = transmit.ReuseAtOnce
	plan = transmit.Select(conditions, transfer, transmit.SelectOptions{})
	fmt.Println(plan.At(1 << 20))
	for _, r := range plan.Rejected {
		if r.Backend == transmit.MsgZerocopy {
			fmt.Println(r.Reason)
		}
	}

	// A device that cannot gather copies whatever is lent.
	conditions.Uplinks[0].ScatterGather = &no
	transfer.Reuse = transmit.ReuseReleased
	plan = transmit.Select(conditions, transfer, transmit.SelectOptions{})
	fmt.Println(plan.At(1 << 20))
	// Output:
	// write msg_zerocopy
	// write
	// The memory is wanted back when the call returns, and the kernel keeps lent pages until they are acknowledged.
	// write
}
