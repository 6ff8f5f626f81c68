package transmit

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGuestNIC lends memory to real drivers. A card that gathers and sums sends
// from it; one that does neither copies, of which its completions speak here.
func TestGuestNIC(t *testing.T) {
	testenv.Guest(t)
	for i, c := range []struct {
		driver string
		want   Reported
	}{{"e1000e", Uncopied}, {"ne2k-pci", Copied}} {
		t.Run(c.driver, func(t *testing.T) {
			dev := testenv.GuestNIC(t, c.driver)
			subnet := fmt.Sprintf("10.93.%d.", i)
			p := &slowPath{}
			for _, args := range []string{
				"addr add " + subnet + "1/24 dev " + dev, "link set " + dev + " up",
				"neigh replace " + subnet + "2 lladdr 02:00:00:00:00:02 nud permanent dev " + dev,
			} {
				p.here(t, "ip", strings.Fields(args)...)
			}
			defer p.here(t, "ip", "link", "set", dev, "down")
			defer p.here(t, "ip", "addr", "flush", "dev", dev)
			time.Sleep(3 * time.Second) // until the link has a carrier
			out, err := net.Dial("udp4", subnet+"2:9")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			s, err := NewSender(out.(*net.UDPConn), Options{Backend: MsgZerocopy})
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				done, err := s.Send(t.Context(), make([]byte, 1400))
				if err != nil {
					t.Fatal(err)
				}
				if r, err := done.Wait(t.Context()); err != nil || r.Reported != c.want || r.Backend != MsgZerocopy {
					t.Errorf("%+v, %v; want %v", r, err, c.want)
				}
			}
		})
	}
}
