package probe

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

func zipped(t testing.TB, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// madeHost is a host made of files, under the running kernel's release.
func madeHost(t testing.TB) (s *sources, proc, sysfs, root fstest.MapFS, release string) {
	release, _, err := sys.KernelRelease()
	if err != nil {
		t.Fatal(err)
	}
	proc = fstest.MapFS{
		"version":                              file("Linux version 6.12.1 (a@b) (gcc) #1 SMP"),
		"self/status":                          file("Name:\tx\nUid:\t7\t7\t7\t7\nGroups:\t\nCapEff:\t0000000000003000\nSeccomp:\t0\n"),
		"thread-self/status":                   file("Name:\tx\nUid:\t7\t7\t7\t7\nGroups:\t\nCapEff:\t0000000000000000\nSeccomp:\t2\n"),
		"self/ns/user":                         {Data: []byte("user:[4026531837]"), Mode: fs.ModeSymlink | 0o777},
		"self/uid_map":                         file("         0          0 4294967295\n"),
		"thread-self/net/protocols":            file("protocol  size sockets\nXDP       1088      0\nTCP   2304  1\nTCP 1 1\n"),
		"sys/net/ipv4/tcp_available_ulp":       file("mptcp tls\n"),
		"sys/kernel/io_uring_disabled":         file("1\n"),
		"crypto":                               file("name         : gcm(aes)\ndriver       : x\n\nname  : cbc(aes)\n"),
		"modules":                              file("tls 155648 0 - Live 0x0\n"),
		"sys/net/ipv4/tcp_mtu_probing":         file("0"),
		"sys/net/core/optmem_max":              file("131072\n"),
		"sys/net/ipv4/tcp_wmem":                file("4096\t16384\t4194304\n"),
		"sys/fs/pipe-max-size":                 file("1048576\n"),
		"sys/fs/pipe-user-pages-soft":          file("16384\n"),
		"sys/kernel/modules_disabled":          file("0\n"),
		"sys/net/ipv4/tcp_notsent_lowat":       file("4294967295\n"),
		"sys/net/core/tstamp_allow_data":       file("1\n"),
		"sys/kernel/io_uring_group":            file("-1\n"),
		"sys/net/core/default_qdisc":           file("fq\n"),
		"sys/net/core/max_skb_frags":           file("17\n"),
		"sys/net/core/wmem_max":                file("212992\n"),
		"sys/vm/max_map_count":                 file("65530\n"),
		"sys/kernel/unprivileged_bpf_disabled": file("2\n"),
	}
	sysfs = fstest.MapFS{
		"kernel/security/lockdown":             file("none [integrity] confidentiality\n"),
		"module/vsock/initstate":               file("live\n"),
		"module/ipv6/parameters/disable":       file("1\n"),
		"module/secretmem/parameters/enable":   file("N\n"),
		"module/af_packet/uevent":              file(""),
		"module/vsock_loopback_else/initstate": file("live\n"),
	}
	tree := "lib/modules/" + release
	root = fstest.MapFS{
		"boot/config-0.0.0-other": file("CONFIG_TLS=y\n" + configEnd + "\n"),
		"boot/config-" + release:  file("# comment\nCONFIG_MODULES=y\nCONFIG_INET=y\n# CONFIG_XDP_SOCKETS is not set\nCONFIG_TLS=m\nCONFIG_LOCALVERSION=\"\"\n" + configEnd + "\n"),
		tree + "/modules.dep":     file("kernel/net/tls/tls.ko.xz:\nkernel/net/vmw_vsock/vsock-loopback.ko: kernel/net/vmw_vsock/vsock.ko\n"),
		tree + "/modules.builtin": file("kernel/net/unix/unix.ko\n"),
	}
	return &sources{proc: proc, sys: sysfs, root: root}, proc, sysfs, root, release
}

func TestHostFromFiles(t *testing.T) {
	s, _, _, _, release := madeHost(t)
	h := readHost(s)
	if h.OS != "linux" || h.Arch != runtime.GOARCH || h.Kernel != release || h.UID != uint32(os.Geteuid()) {
		t.Errorf("%+v", h)
	}
	if h.CapEff != 0x3000 || h.Seccomp != "filter" {
		t.Errorf("capabilities %#x of the process, seccomp %q of the thread", h.CapEff, h.Seccomp)
	}
	if h.InitUserNS == nil || !*h.InitUserNS || h.Lockdown != "integrity" || h.Sandbox != "" {
		t.Errorf("user namespace %v, lockdown %q, sandbox %q", h.InitUserNS, h.Lockdown, h.Sandbox)
	}
	if h.ConfigSource != "/boot/config-"+release || h.Config["CONFIG_TLS"] != "m" || h.Config["CONFIG_XDP_SOCKETS"] != "n" || h.Config["CONFIG_INET"] != "y" {
		t.Errorf("config of %q: %v", h.ConfigSource, h.Config)
	}
	for module, want := range map[string]string{
		"tls": "loaded", "vsock": "loaded", "vsock_loopback": "available", "af_packet": "builtin", "unix": "builtin", "ipv6": "builtin",
	} {
		if h.Modules[module] != want {
			t.Errorf("module %s is %q, want %q", module, h.Modules[module], want)
		}
	}
	if h.ModuleParams["ipv6.disable"] != "1" || h.ModuleParams["secretmem.enable"] != "N" {
		t.Errorf("parameters %v", h.ModuleParams)
	}
	if !slices.Equal(h.Protocols, []string{"TCP", "XDP"}) || h.IPv6 == nil || *h.IPv6 || !slices.Equal(h.Ciphers, []string{"gcm(aes)"}) {
		t.Errorf("protocols %q, IPv6 %v, ciphers %q", h.Protocols, h.IPv6, h.Ciphers)
	}
	if h.Sysctls["net.ipv4.tcp_available_ulp"] != "mptcp tls" || h.SysctlErrors["net.ipv6.conf.lo.disable_ipv6"] != "ENOENT" {
		t.Errorf("sysctls %v, errors %v", h.Sysctls, h.SysctlErrors)
	}
	if len(h.Errors) != 0 {
		t.Errorf("errors %q", h.Errors)
	}
}

// TestHostVariants changes one thing of the host at a time.
func TestHostVariants(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(proc, sysfs, root fstest.MapFS, release string)
		check func(h HostFacts) bool
	}{
		{"configuration in /proc first", func(proc, _, _ fstest.MapFS, _ string) {
			proc["config.gz"] = &fstest.MapFile{Data: zipped(t, "CONFIG_TLS=y\n"+configEnd+"\n")}
		}, func(h HostFacts) bool {
			return h.ConfigSource == "/proc/config.gz" && h.Config["CONFIG_TLS"] == "y" && h.Modules["tls"] == "builtin"
		}},
		{"configuration in /proc corrupt", func(proc, _, _ fstest.MapFS, _ string) { proc["config.gz"] = file("not gzip") },
			func(h HostFacts) bool { return len(h.Errors) == 1 && h.Config["CONFIG_TLS"] == "m" }},
		{"configuration beside the modules", func(_, _, root fstest.MapFS, r string) {
			root["usr/lib/modules/"+r+"/config"] = root["boot/config-"+r]
			delete(root, "boot/config-"+r)
		}, func(h HostFacts) bool { return strings.HasPrefix(h.ConfigSource, "/usr/lib/modules/") }},
		{"another kernel's configuration", func(_, _, root fstest.MapFS, r string) { delete(root, "boot/config-"+r) },
			func(h HostFacts) bool { return h.Config == nil && h.ConfigSource == "" }},
		{"configuration cut short", func(_, _, root fstest.MapFS, r string) { root["boot/config-"+r] = file("CONFIG_INET=y\n") },
			func(h HostFacts) bool {
				_, tls := h.Config["CONFIG_TLS"]
				return h.Config["CONFIG_INET"] == "y" && !tls
			}},
		{"module tree without its list of dependencies", func(_, _, root fstest.MapFS, r string) { delete(root, "lib/modules/"+r+"/modules.dep") },
			func(h HostFacts) bool {
				return h.Modules["vsock_loopback"] == "unknown" && h.Modules["unix"] == "builtin"
			}},
		{"module tree without its list of built-ins", func(_, _, root fstest.MapFS, r string) {
			delete(root, "lib/modules/"+r+"/modules.builtin")
		}, func(h HostFacts) bool {
			return h.Modules["unix"] == "unknown" && h.Modules["vsock_loopback"] == "available"
		}},
		{"module tree complete, module gone", func(_, _, root fstest.MapFS, r string) {
			root["lib/modules/"+r+"/modules.dep"] = file("kernel/a.ko:\n")
		}, func(h HostFacts) bool { return h.Modules["vsock_loopback"] == "absent" }},
		{"lockdown not mounted", func(_, sysfs, _ fstest.MapFS, _ string) { delete(sysfs, "kernel/security/lockdown") },
			func(h HostFacts) bool { return h.Lockdown == "none" }}, // the configuration has no such option
		{"lockdown not mounted, perhaps built", func(_, sysfs, root fstest.MapFS, r string) {
			delete(sysfs, "kernel/security/lockdown")
			delete(root, "boot/config-"+r)
		}, func(h HostFacts) bool { return h.Lockdown == "unknown" }},
		{"user namespace by its number", func(proc, _, _ fstest.MapFS, _ string) {
			proc["self/ns/user"].Data = []byte("user:[4026532300]")
		}, func(h HostFacts) bool { return !*h.InitUserNS }},
		{"user namespace by its map", func(proc, _, _ fstest.MapFS, _ string) {
			delete(proc, "self/ns/user")
			proc["self/uid_map"] = file("0 100000 65536\n")
		}, func(h HostFacts) bool { return !*h.InitUserNS }},
		{"user namespace that maps all", func(proc, _, _ fstest.MapFS, _ string) { delete(proc, "self/ns/user") },
			func(h HostFacts) bool { return h.InitUserNS == nil && len(h.Errors) == 1 }},
		{"no thread-self", func(proc, _, _ fstest.MapFS, _ string) {
			delete(proc, "thread-self/status")
			delete(proc, "thread-self/net/protocols")
			proc["net/protocols"] = file("protocol\nTCPv6 1\n")
		}, func(h HostFacts) bool { return h.Seccomp == "none" && *h.IPv6 }},
		{"gVisor by its name", func(proc, _, _ fstest.MapFS, _ string) {
			proc["version"] = file("Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016")
		}, func(h HostFacts) bool { return h.Sandbox == "gvisor" }},
		{"gVisor by its date", func(proc, _, _ fstest.MapFS, _ string) {
			proc["version"] = file("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016")
		}, func(h HostFacts) bool { return h.Sandbox == "gvisor" }},
		{"status garbled", func(proc, _, _ fstest.MapFS, _ string) { proc["self/status"] = file("CapEff:\tzz\n") },
			func(h HostFacts) bool { return len(h.Errors) == 1 && h.Seccomp == "filter" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, proc, sysfs, root, release := madeHost(t)
			c.edit(proc, sysfs, root, release)
			if h := readHost(s); !c.check(h) {
				t.Errorf("%+v", h)
			}
		})
	}
}

// Without /proc and /sys little is known, and each gap is named.
func TestHostFromNothing(t *testing.T) {
	none := &sources{proc: fstest.MapFS{}, sys: fstest.MapFS{}, root: fstest.MapFS{}}
	h := readHost(none)
	if h.Kernel == "" || len(h.Errors) < 3 || h.InitUserNS != nil || h.IPv6 != nil || h.Config != nil || len(h.Protocols) != 0 {
		t.Errorf("%+v", h)
	}
	if h.Seccomp == "unknown" || h.Lockdown != "unknown" {
		t.Errorf("seccomp %q is known without /proc, lockdown %q is not", h.Seccomp, h.Lockdown)
	}
	for module, state := range h.Modules {
		if state != "unknown" {
			t.Errorf("module %s is %q", module, state)
		}
	}
	if len(h.SysctlErrors) != len(hostSysctls) || len(h.Sysctls) != 0 {
		t.Errorf("sysctls %v", h.Sysctls)
	}
	// The tests that need to look first are not made; the others are.
	f := &Facts{Host: h, Outcomes: runTests(t.Context(), &h)}
	status := map[string]FeatureStatus{}
	for _, x := range judgeKernel(f) {
		status[x.ID] = x.Status
	}
	for id, want := range map[string]FeatureStatus{
		"tee": Supported, "sendfile.unix": Supported, "ktls.tx": UnknownFeature, "af_xdp": UnknownFeature,
		"packet_tx_ring": UnknownFeature, "msg_zerocopy.tcp6": UnknownFeature, "msg_zerocopy.vsock": UnknownFeature,
	} {
		if status[id] != want {
			t.Errorf("%s is %s, want %s", id, status[id], want)
		}
	}
}

// TestHostHere compares with programs that read the same.
func TestHostHere(t *testing.T) {
	h := readHost(liveSources())
	out := func(name string, args ...string) string {
		b, err := exec.Command(testenv.Tool(t, name), args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return strings.TrimSpace(string(b))
	}
	if want := out("uname", "-r"); h.Kernel != want {
		t.Errorf("kernel %q, uname says %q", h.Kernel, want)
	}
	if want := out("sysctl", "-n", "fs.pipe-max-size"); h.Sysctls["fs.pipe-max-size"] != want {
		t.Errorf("fs.pipe-max-size %q, sysctl says %q", h.Sysctls["fs.pipe-max-size"], want)
	}
	for _, e := range h.Errors {
		t.Log(e)
	}
	if h.ConfigSource != "/proc/config.gz" {
		return
	}
	config := out("zcat", "/proc/config.gz")
	for name, value := range h.Config {
		want := "n"
		if _, after, ok := strings.Cut(config, "\n"+name+"="); ok {
			want, _, _ = strings.Cut(after, "\n")
		}
		if value != want {
			t.Errorf("%s is %q, zcat says %q", name, value, want)
		}
	}
}

func TestJudgeHost(t *testing.T) {
	got := judgeHost(&Facts{Host: HostFacts{OS: "linux", Kernel: "6.1", Arch: "arm64", UID: 7, Lockdown: "none", Seccomp: "filter", Sandbox: "gvisor"}})
	if want := (Host{OS: "linux", Kernel: "6.1", Arch: "arm64", UID: 7, Lockdown: "none", Seccomp: "filter", Sandbox: "gvisor"}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := judgeHost(&Facts{}); got.Seccomp != "unknown" || got.Lockdown != "unknown" {
		t.Errorf("got %+v", got)
	}
}

func FuzzHostFiles(f *testing.F) {
	f.Add([]byte("CONFIG_TLS=m\n# CONFIG_IPV6 is not set\n" + configEnd + "\n"))
	f.Add([]byte("kernel/net/tls/tls.ko.xz: kernel/a-b.ko\n"))
	f.Add([]byte("protocol size\nTCP 1\n"))
	f.Add([]byte("none [integrity] confidentiality"))
	f.Add([]byte("name : gcm(aes)\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg, err := parseConfig(bytes.NewReader(b), []string{"CONFIG_TLS", "CONFIG_IPV6"})
		if err != nil && cfg != nil {
			t.Error("a configuration and an error")
		}
		for name := range moduleList(b) {
			if strings.ContainsAny(name, "-/\n") {
				t.Errorf("module %q", name)
			}
		}
		for name := range loadedModules(b) {
			if name == "" {
				t.Error("a module without a name")
			}
		}
		if p := parseProtocols(b); !slices.IsSorted(p) {
			t.Errorf("protocols %q", p)
		}
		if m := parseLockdown(b); !slices.Contains([]string{"none", "integrity", "confidentiality", "unknown"}, m) {
			t.Errorf("lockdown %q", m)
		}
		parseCiphers(b, hostCiphers)
		sandboxOf("", b)
		s := &sources{proc: fstest.MapFS{"config.gz": {Data: b}, "self/status": {Data: b}, "thread-self/status": {Data: b}, "modules": {Data: b}},
			sys: fstest.MapFS{}, root: fstest.MapFS{}}
		readHost(s)
	})
}
