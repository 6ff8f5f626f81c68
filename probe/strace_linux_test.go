package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestFunctestsUnderStrace has strace say what the tests do: they make the
// calls they name, speak to this machine alone, and touch no file and no
// setting.
func TestFunctestsUnderStrace(t *testing.T) {
	strace := testenv.Tool(t, "strace")
	log := filepath.Join(t.TempDir(), "log")
	f, features := probeChild(t, nil, childOrder{}, func(cmd *exec.Cmd) {
		// Not all: the runtime's own calls are none of our business.
		trace := "trace=network,sendfile,splice,vmsplice,tee,copy_file_range,memfd_create,memfd_secret,io_uring_setup,io_uring_enter,io_uring_register,fcntl,open,openat,ioctl,init_module,finit_module,mount,unlink,unlinkat,rename,write,pwrite64"
		cmd.Args = append([]string{strace, "-f", "-qq", "-o", log, "-e", trace, "--"}, cmd.Args...)
		cmd.Path = strace
		// Under strace /proc/self/exe is strace.
		cmd.Args[len(cmd.Args)-2] = mustExecutable(t)
	})
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for id, calls := range map[string][]string{
		"msg_zerocopy.tcp4":    {`setsockopt\(\d+, SOL_SOCKET, SO_ZEROCOPY, \[1\]`, `sendto\(\d+, .*, 65536, MSG_ZEROCOPY, NULL, 0\) += 65536`, `recvmsg\(.*ee_errno=0, ee_origin=(5|SO_EE_ORIGIN_ZEROCOPY), .*ee_code=1.*MSG_ERRQUEUE`},
		"msg_zerocopy.tcp6":    {`connect\(\d+, \{sa_family=AF_INET6.*"::1"`},
		"msg_zerocopy.udp4":    {`sendto\(\d+, .*, 61440, MSG_ZEROCOPY, NULL, 0\) += 61440`},
		"udp.gso":              {`setsockopt\(\d+, SOL_UDP, UDP_SEGMENT, \[1200\]`},
		"tcp.cork":             {`setsockopt\(\d+, SOL_TCP, TCP_CORK, \[1\]`},
		"tcp_zerocopy_receive": {`getsockopt\(\d+, SOL_TCP, TCP_ZEROCOPY_RECEIVE`},
		"pipe.resize":          {`fcntl\(\d+, F_SETPIPE_SZ, 1048576\) += 1048576`},
		"memfd.seal":           {`fcntl\(\d+, F_ADD_SEALS, F_SEAL_SHRINK\|F_SEAL_GROW\|F_SEAL_WRITE\) += 0`},
		"memfd_secret":         {`memfd_secret\((O_CLOEXEC|0x80000)\) += \d`},
		"packet_tx_ring":       {`setsockopt\(\d+, SOL_PACKET, PACKET_TX_RING`},
		"af_xdp":               {`setsockopt\(\d+, SOL_XDP, XDP_UMEM_REG`},
		"io_uring":             {`io_uring_setup\(4,`},
		"io_uring.send_zc":     {`io_uring_register\(\d+, IORING_REGISTER_PROBE`},
		"sendfile.udp":         {`sendfile\(\d+, \d+, \[0\](?: => \[8192\])?, 8192\) += 8192`},
		"splice.file-tcp":      {`splice\(\d+, \[0\](?: => \[8192\])?, \d+, NULL, 8192, SPLICE_F_MOVE\|SPLICE_F_NONBLOCK\) += 8192`},
		"vmsplice":             {`vmsplice\(\d+, \[\{iov_base=.*, iov_len=8192\}\], 1, SPLICE_F_NONBLOCK\) += 8192`},
		"tee":                  {`tee\(\d+, \d+, 8192, SPLICE_F_NONBLOCK\) += 8192`},
		"copy_file_range":      {`copy_file_range\(\d+, \[0\](?: => \[8192\])?, \d+, \[0\](?: => \[8192\])?, 8192, 0\) += 8192`},
	} {
		if features[id].Status != Supported {
			continue
		}
		for _, call := range calls {
			if !regexp.MustCompile(call).MatchString(text) {
				t.Errorf("%s is supported, but strace saw no %s", id, call)
			}
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, never := range []string{"init_module(", "mount(", "unlink", "rename(", "O_CREAT", "SIOCS", "SIOCETHTOOL"} {
			if strings.Contains(line, never) {
				t.Error(line)
			}
		}
		if strings.Contains(line, "TCP_ULP") && !strings.Contains(f.Host.Sysctls["net.ipv4.tcp_available_ulp"], "tls") {
			t.Error(line)
		}
		for _, m := range inetAddress.FindAllStringSubmatch(line, -1) {
			if a := m[1]; a != "127.0.0.1" && a != "::1" {
				t.Errorf("%s: %s", a, line)
			}
		}
	}
}

var inetAddress = regexp.MustCompile(`(?:inet_addr|inet_pton)\((?:AF_INET6, )?"([^"]*)"`)

func mustExecutable(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}
