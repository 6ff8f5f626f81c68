package ebpf_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestAdviceOfNginx: each of its settings that matters, and no word where they are
// right.
func TestAdviceOfNginx(t *testing.T) {
	testenv.Root(t)
	nginx := testenv.Tool(t, "nginx")
	for _, c := range []struct {
		name, settings string
		want           []string
	}{
		{"sendfile off", "sendfile off;", []string{"copy-loop"}},
		{"sendfile on", "sendfile on;", []string{"cork-missing"}},
		{"sendfile and nopush on", "sendfile on; tcp_nopush on;", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "zcprobe-nginx-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			f := file(t, 2<<20)
			raw, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "body"), raw, 0o644); err != nil {
				t.Fatal(err)
			}
			port := freePort(t)
			conf := filepath.Join(dir, "conf")
			err = os.WriteFile(conf, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
 %[2]s server { listen 127.0.0.1:%[3]s; root %[1]s; } }
`, dir, c.settings, port), 0o644)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", conf)
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Signal(unix.SIGTERM)
				cmd.Wait()
			}()
			url := "http://127.0.0.1:" + port + "/body"
			get(t, url)
			tracer := open(t, ebpf.Options{Exact: true, Processes: []int{cmd.Process.Pid}})
			const requests = 10
			for range requests {
				get(t, url)
			}
			got := advised(t, tracer, cmd.Process.Pid)
			expect(t, got, c.want...)
			if a := got["cork-missing"]; len(c.want) > 0 && c.want[0] == a.ID && (a.Calls != requests || !strings.Contains(a.Remedy, "tcp_nopush")) {
				t.Errorf("%+v", a)
			}
			if a := got["copy-loop"]; len(c.want) > 0 && c.want[0] == a.ID && (a.Bytes > requests*2<<20 || a.Bytes < requests*2<<20*9/10 || !strings.Contains(a.Remedy, "sendfile on")) {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestAdviceOfCaptures: a packet socket that copies nothing that was lent, but some
// of each packet, is told of, and by whom.
func TestAdviceOfCaptures(t *testing.T) {
	ns := testenv.NewNetNS(t)
	f := file(t, 2<<20)
	ns.Do(func() {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				defer c.Close()
				io.Copy(io.Discard, struct{ io.Reader }{c})
			}
		}()
		const all = 0x0300 // ETH_P_ALL in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got := python(t, pythonConnect+"body()\nimport time\ntime.sleep(2)", port, f.Name())
		expect(t, got, "tap-capture")
		if a := got["tap-capture"]; a.Bytes != 2<<20 || a.Device != "lo" || !strings.Contains(a.Text, fmt.Sprintf("(pid %d) captures on lo", os.Getpid())) {
			t.Errorf("%+v", a)
		}
	})
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// get asks for a file on a connection of its own, until somebody answers.
func get(t *testing.T, url string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 200 {
		r, err := client.Get(url)
		if err != nil {
			time.Sleep(25 * time.Millisecond)
			continue
		}
		n, err := io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || n != 2<<20 {
			t.Fatalf("%s: %d bytes, %v", r.Status, n, err)
		}
		return
	}
	t.Fatal("nobody answers")
}

// lend sends with MSG_ZEROCOPY, and reads the completions.
func lend(t *testing.T, c net.Conn) {
	t.Helper()
	data := payload(64 << 10)
	control(t, c, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
			return err
		}
		for range 32 {
			if _, err := unix.SendmsgN(fd, data, nil, nil, unix.MSG_ZEROCOPY); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
			drainErrors(fd)
		}
		return nil
	})
	sent(t, c)
}

// TestAdviceOfTap: who captures is named, and completions that say copied are
// told from what the wire had.
func TestAdviceOfTap(t *testing.T) {
	sink := newSink(t)
	var pid int
	err := sink.Do(func() error {
		pid, _ = begin(t, `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
print("ready", flush=True)
sys.stdin.read()
`)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tracer := open(t, ebpf.Options{Exact: true})
	c, err := sink.Dial(t.Context(), "tcp4")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lend(t, c)
	got := advised(t, tracer, 0)
	expect(t, got, "packet-tap")
	a := got["packet-tap"]
	if !strings.HasPrefix(a.Text, fmt.Sprintf("python3 (pid %d) captures", pid)) || !strings.Contains(a.Text, "still sent the program's own memory") || a.Device != lab.Device || a.Bytes != 32*64<<10 {
		t.Errorf("%+v", a)
	}
}

// TestAdviceOfProbing: completions that come too early are a hazard, where
// completions are used at all.
func TestAdviceOfProbing(t *testing.T) {
	sink := newSink(t)
	err := sink.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/tcp_mtu_probing", []byte("1"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, lends := range []bool{true, false} {
		tracer := open(t, ebpf.Options{Exact: true})
		c, err := sink.Dial(t.Context(), "tcp4")
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if lends {
			lend(t, c)
			want = []string{"early-completion"}
		} else {
			control(t, c, func(fd int) error { return sendWrite(fd, payload(1<<20), 64<<10) })
			sent(t, c)
		}
		expect(t, advised(t, tracer, 0), want...)
		c.Close()
	}
}

// TestAdviceOfTimestamps: a copy that is made for a timestamp is none of what the
// wire had.
func TestAdviceOfTimestamps(t *testing.T) {
	const software = 1<<1 | 1<<4 // SOF_TIMESTAMPING_TX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE
	for _, stamps := range []bool{false, true} {
		t.Run(fmt.Sprint(stamps), func(t *testing.T) {
			c := dialSink(t)
			var want []string
			if stamps {
				control(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, software) })
				want = []string{"tx-timestamp"}
			}
			tracer := open(t, ebpf.Options{Exact: true})
			lend(t, c)
			expect(t, advised(t, tracer, 0), want...)
		})
	}
}
