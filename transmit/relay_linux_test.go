package transmit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// relaySizes are at every boundary that the relay or the kernel knows.
var relaySizes = []int{
	0, 1, 4095, 4096, 4097, smallRelay, smallRelay + 1, 65535, 65536, 65537, copyBytes - 1, copyBytes + 1, pipeBytes - 1, pipeBytes, pipeBytes + 1, 3<<20 + 7,
}

func sameContent(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: got %d bytes, want %d; they differ at %d", what, len(got), len(want), at)
}

func TestRelay(t *testing.T) {
	content := pattern(relaySizes[len(relaySizes)-1])
	for _, src := range sources {
		for _, dst := range targets {
			for _, backend := range []Backend{"", Splice, ReadWrite} {
				t.Run(fmt.Sprintf("%s to %s %s", src.name, dst.name, backend), func(t *testing.T) {
					t.Parallel()
					for _, size := range relaySizes {
						// To the end, and only so many bytes of a longer stream.
						for _, n := range []int64{-1, int64(size)} {
							fed := content[:size]
							if n >= 0 {
								fed = content[:min(size+4097, len(content))]
							}
							from := src.open(t, fed)
							to, arrived := dst.open(t)
							var told []*Downgrade
							res, err := Relay(t.Context(), to, from, n, RelayOptions{Backend: backend, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
							if err != nil || res.Bytes != int64(size) {
								t.Fatalf("relay of %d bytes, n %d: %+v, %v", size, n, res, err)
							}
							sameContent(t, fmt.Sprintf("%d bytes, n %d", size, n), arrived(), content[:size])
							checkWay(t, dst.name, backend, n, size, res, told)
						}
					}
				})
			}
		}
	}
}

// checkWay compares what the relay says of its way with what the kernel can do.
func checkWay(t *testing.T, dst string, asked Backend, n int64, size int, res Result, told []*Downgrade) {
	t.Helper()
	small := asked == "" && n >= 0 && n <= smallRelay
	spliced := asked != ReadWrite && dst != "append" && !small
	switch {
	case size == 0:
	case spliced && (res.Backend != Splice || res.PlainBytes != 0 || len(told) != 0):
		t.Errorf("%d bytes went %+v, told %v; want splice for all", size, res, told)
	case !spliced && (res.Backend != ReadWrite || res.PlainBytes != res.Bytes):
		t.Errorf("%d bytes went %+v; want read_write for all", size, res)
	case small && (len(told) > 0 || res.Cause != ""):
		t.Errorf("%d bytes: told %v, cause %q; want nothing, it was meant so", size, told, res.Cause)
	case asked != ReadWrite && dst == "append" && !small && (len(told) != 1 || res.Cause != "fast-path-refused" || !errors.Is(told[0], syscall.EINVAL)):
		t.Errorf("%d bytes: told %v, cause %q; want one EINVAL", size, told, res.Cause)
	}
}

func TestRelayLeavesTheRest(t *testing.T) {
	content := pattern(200_000)
	for _, src := range sources {
		t.Run(src.name, func(t *testing.T) {
			from := src.open(t, content)
			to, arrived := targets[0].open(t)
			if res, err := Relay(t.Context(), to, from, 70_001, RelayOptions{}); err != nil || res.Bytes != 70_001 {
				t.Fatal(res, err)
			}
			sameContent(t, "relayed", arrived(), content[:70_001])
			rest, err := io.ReadAll(from.(io.Reader))
			if err != nil {
				t.Fatal(err)
			}
			sameContent(t, "the rest", rest, content[70_001:])
		})
	}
}

func TestRelayShortSource(t *testing.T) {
	for _, src := range sources {
		to, arrived := targets[0].open(t)
		res, err := Relay(t.Context(), to, src.open(t, pattern(5000)), 5001, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &re) || re.Read != 5000 || re.Written != 5000 || res.Bytes != 5000 {
			t.Errorf("%s: %+v, %v; want an unexpected end after 5000", src.name, res, err)
		}
		sameContent(t, src.name, arrived(), pattern(5000))
	}
}

func TestRelayRefuses(t *testing.T) {
	tcp, _ := tcpPair(t)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	packets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	packet := os.NewFile(uintptr(packets[0]), "seqpacket")
	defer packet.Close()
	defer unix.Close(packets[1])
	conn, err := net.FileConn(packet)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, w := osPipe(t)
	closed := fileOf(t, nil)
	_ = closed.Close()
	type embedded struct{ *net.TCPConn }
	f := fileOf(t, []byte("content"))
	for name, c := range map[string]struct {
		dst, src syscall.Conn
		n        int64
		opts     RelayOptions
		want     error
	}{
		"datagrams":         {tcp, udp, -1, RelayOptions{}, errors.ErrUnsupported},
		"to datagrams":      {udp, tcp, -1, RelayOptions{}, errors.ErrUnsupported},
		"seqpacket file":    {tcp, packet, -1, RelayOptions{}, errors.ErrUnsupported},
		"seqpacket conn":    {tcp, conn.(*net.UnixConn), -1, RelayOptions{}, errors.ErrUnsupported},
		"what may buffer":   {tcp, embedded{tcp}, -1, RelayOptions{}, errors.ErrUnsupported},
		"directory":         {tcp, dir, -1, RelayOptions{}, syscall.EISDIR},
		"a pipe to itself":  {w, r, -1, RelayOptions{}, syscall.EINVAL},
		"a file to itself":  {f, f, -1, RelayOptions{}, syscall.EINVAL},
		"closed":            {tcp, closed, -1, RelayOptions{}, os.ErrClosed},
		"negative":          {tcp, r, -2, RelayOptions{}, syscall.EINVAL},
		"backend of memory": {tcp, r, -1, RelayOptions{Backend: MsgZerocopy}, errors.ErrUnsupported},
	} {
		if res, err := Relay(t.Context(), c.dst, c.src, c.n, c.opts); !errors.Is(err, c.want) || res.Bytes != 0 {
			t.Errorf("%s: %+v, %v; want %v", name, res, err, c.want)
		}
	}
}

func TestRelayFilePositions(t *testing.T) {
	content := pattern(3 << 20)
	src, dst := fileOf(t, content), fileOf(t, nil)
	if _, err := src.Seek(5, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if res, err := Relay(t.Context(), dst, src, 2<<20, RelayOptions{}); err != nil || res.Bytes != 2<<20 || res.Backend != Splice {
		t.Fatal(res, err)
	}
	sameContent(t, "file", contentOf(t, dst), append(make([]byte, 7), content[5:5+2<<20]...))
	at, _ := src.Seek(0, io.SeekCurrent)
	to, _ := dst.Seek(0, io.SeekCurrent)
	if at != 5+2<<20 || to != 7+2<<20 {
		t.Errorf("positions %d and %d", at, to)
	}
}

// A file that has no size before it is read is read to its end all the same.
func TestRelayFromProcfs(t *testing.T) {
	for _, name := range []string{"/proc/version", "/proc/self/limits", "/proc/cpuinfo"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		to, arrived := targets[0].open(t)
		res, err := Relay(t.Context(), to, f, -1, RelayOptions{OnDowngrade: func(*Downgrade) {}})
		_ = f.Close()
		got := arrived()
		if err != nil || res.Bytes != int64(len(got)) || len(got) < len(want)/2 || len(got) == 0 {
			t.Errorf("%s: %d bytes, %+v, %v; read gives %d", name, len(got), res, err, len(want))
		}
	}
}
