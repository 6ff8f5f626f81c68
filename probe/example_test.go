package probe_test

import (
	"context"
	"fmt"
	"log"

	"github.com/zcprobe/zcprobe/probe"
)

// What stands in the way on this host, and on the path to a peer.
func ExampleCollect() {
	o := probe.Options{To: "127.0.0.1:9000"}
	facts, err := probe.Collect(context.Background(), o) // reads, decides nothing
	if err != nil {
		log.Fatal(err)
	}
	report := probe.Judge(facts, o) // decides, reads nothing
	for _, c := range report.Blockers {
		fmt.Println(c.Status, c.ID, c.Subject, c.Detail, c.Remedy)
	}
	for _, a := range report.Path.APIs {
		fmt.Println(a.API, a.Protocol, a.ZeroCopy)
	}
}

// A host that was recorded elsewhere gives the answers it gave there.
func ExampleOpenRecord() {
	record, err := probe.OpenRecord("../testdata/hosts/guest-5.10-ne2k_pci") // made by probe.WriteRecord
	if err != nil {
		log.Fatal(err)
	}
	o, err := record.Options(probe.Options{To: record.Facts.Paths[0].Asked})
	if err != nil {
		log.Fatal(err)
	}
	report := probe.Judge(record.Facts, o)
	for _, f := range report.Features {
		if f.ID == "nic.tx-scatter-gather" && f.Subject != "lo" {
			fmt.Println(f.Subject, f.Status)
		}
	}
	fmt.Println(report.Path.Verdict.Status)
	for _, b := range report.Path.Blockers {
		fmt.Println(b.ID, b.Device)
	}
	// Output:
	// eth0 unsupported
	// fail
	// no-scatter-gather eth0
}

// The catalogue says what a name means that reports, traces and plans use.
func ExampleLookupCause() {
	c, ok := probe.LookupCause("no-scatter-gather")
	fmt.Println(ok, c.Kind, c.Expected)
	fmt.Println(c.Summary)
	// Output:
	// true copy false
	// A device without scatter-gather: all is copied
}
