package ebpf_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
)

// Ten seconds of one process and its children to come.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tracer, err := ebpf.Open(ctx, ebpf.Options{Processes: []int{4711}})
	if err != nil {
		log.Fatal(err)
	}
	defer tracer.Close()

	summary, err := tracer.Run(ctx) // until ctx ends
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range summary.Flows {
		fmt.Printf("%s[%d] %s to %s: %d of %d bytes copied\n", f.Comm, f.PID, f.API, f.Remote, f.CopiedBytes, f.Bytes)
		for _, c := range f.Causes {
			entry, _ := probe.LookupCause(c.ID)
			fmt.Printf("  %d bytes: %s\n", c.Bytes, entry.Summary)
		}
	}
	for _, s := range summary.Incomplete {
		fmt.Println("not seen:", s)
	}
}

// What an ordinary user may, if not everything.
func ExampleOpen_unprivileged() {
	ctx := context.Background()
	tracer, err := ebpf.Open(ctx, ebpf.Options{})
	if errors.Is(err, fs.ErrPermission) {
		if p, ok := errors.AsType[*ebpf.PermissionError](err); ok {
			log.Print(p.Needs) // what is missing
		}
		tracer, err = ebpf.Open(ctx, ebpf.Options{Tier: ebpf.TierNone})
	}
	if err != nil {
		log.Fatal(err)
	}
	defer tracer.Close()
}

// Without BPF, as any user: it runs anywhere, and says what it cannot see.
func ExampleTracer_Run() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	tracer, err := ebpf.Open(ctx, ebpf.Options{Tier: ebpf.TierNone, Processes: []int{os.Getpid()}})
	if err != nil {
		log.Fatal(err)
	}
	defer tracer.Close()
	summary, err := tracer.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Schema, summary.Tier, len(summary.Incomplete) > 0)
	// Output: zcprobe/trace/v1 none true
}

// A gauge that is read every ten seconds: the share of bytes that were copied
// since the time before.
func ExampleTracer_Summaries() {
	ctx := context.Background()
	tracer, err := ebpf.Open(ctx, ebpf.Options{Comm: "nginx"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracer.Close()

	var sent, copied uint64
	for summary, err := range tracer.Summaries(ctx, 10*time.Second) {
		if err != nil {
			log.Fatal(err)
		}
		var nowSent, nowCopied uint64
		for _, f := range summary.Flows {
			nowSent += f.Bytes
			nowCopied += f.CopiedBytes
		}
		if nowSent > sent {
			fmt.Printf("%.2f\n", float64(nowCopied-copied)/float64(nowSent-sent))
		}
		sent, copied = nowSent, nowCopied
	}
}

// Which hooks this kernel has, and what cannot be seen without the others.
func ExampleTracer_Hooks() {
	tracer, err := ebpf.Open(context.Background(), ebpf.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer tracer.Close()
	for _, h := range tracer.Hooks() {
		if !h.Attached {
			fmt.Printf("%s: %v; not seen: %s\n", h.Name, h.Err, h.Blind)
		}
	}
}

// What tracing could do here, without doing it.
func ExampleNewPlan() {
	plan, err := ebpf.NewPlan(context.Background(), ebpf.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("tier", plan.Tier)
	for _, n := range plan.Needs {
		fmt.Println(n.Name, n.For, n.Held)
	}
}
