package transmit_test

import (
	"io"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zctest"
)

// TestShapesByTheirCalls looks at the system calls of every shape.
func TestShapesByTheirCalls(t *testing.T) {
	content := make([]byte, 500_000)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	transmit.EachShape(t, content, func(t *testing.T, c *transmit.Conn, r io.Reader, way transmit.Backend) {
		move := func() {
			if _, err := io.Copy(c, r); err != nil {
				t.Error(err)
			}
		}
		if way != transmit.Sendfile && way != transmit.Splice {
			move()
			return
		}
		zctest.AssertSendfile(t, c, move)
	})
}
