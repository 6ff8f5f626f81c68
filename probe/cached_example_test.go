package probe_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/zcprobe/zcprobe/probe"
)

// A server asks once how it may send, and again whenever it likes: the answer
// comes from a cache where it is certain.
func ExampleKernel() {
	ctx := context.Background()
	k, err := probe.Kernel(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		fmt.Println("not Linux: use ordinary writes")
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	if k.Status("msg_zerocopy.tcp4") != probe.Supported {
		f, _ := k.Feature("msg_zerocopy.tcp4")
		fmt.Printf("no MSG_ZEROCOPY: %s %s\n", f.Detail, f.Remedy)
	}
	if ref, ok := k.Seen("sendfile.udp", "page_ref"); ok && ref == 0 {
		fmt.Println("sendfile to UDP copies on this kernel")
	}
}
