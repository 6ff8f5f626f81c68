package transmit

import (
	"io"
	"testing"
)

// EachShape has do copy every reader of the table of shapes to every kind of
// connection; it goes the given way.
func EachShape(t *testing.T, content []byte, do func(t *testing.T, c *Conn, r io.Reader, way Backend)) {
	for _, s := range append(fileShapes[:len(fileShapes):len(fileShapes)], streamShapes...) {
		for _, to := range []string{"tcp", "unix"} {
			t.Run(s.name+" to "+to, func(t *testing.T) {
				r, want, _ := s.open(t, content)
				c, arrived := connTo(t, to, ConnOptions{})
				do(t, c, r, s.way)
				sameContent(t, "copy", arrived(), want)
			})
		}
	}
}
