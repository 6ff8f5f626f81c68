package probe

import (
	"cmp"
	"runtime"
)

// hostSysctls are the settings that decide something somewhere, by dotted
// name; collecting reads each once.
var hostSysctls = []string{
	"fs.pipe-max-size",
	"fs.pipe-user-pages-hard",
	"fs.pipe-user-pages-soft",
	"kernel.io_uring_disabled",
	"kernel.io_uring_group",
	"kernel.modules_disabled",
	"kernel.unprivileged_bpf_disabled",
	"net.core.default_qdisc",
	"net.core.max_skb_frags",
	"net.core.optmem_max",
	"net.core.tstamp_allow_data",
	"net.core.wmem_max",
	"net.ipv4.tcp_available_ulp",
	"net.ipv4.tcp_mtu_probing",
	"net.ipv4.tcp_notsent_lowat",
	"net.ipv4.tcp_wmem",
	"net.ipv6.conf.all.disable_ipv6",
	"net.ipv6.conf.lo.disable_ipv6",
	"vm.max_map_count",
}

// hostConfig are the options of the kernel's configuration that decide
// something, each with the module it builds, if it can be one.
var hostConfig = []struct{ option, module string }{
	{"CONFIG_BPF_SYSCALL", ""},
	{"CONFIG_INET", ""},
	{"CONFIG_IO_URING", ""},
	{"CONFIG_IPV6", "ipv6"},
	{"CONFIG_MEMFD_CREATE", ""},
	{"CONFIG_MODULES", ""},
	{"CONFIG_NET_DEVMEM", ""},
	{"CONFIG_PACKET", "af_packet"},
	{"CONFIG_SECRETMEM", ""},
	{"CONFIG_SECURITY_LOCKDOWN_LSM", ""},
	{"CONFIG_TLS", "tls"},
	{"CONFIG_TLS_DEVICE", ""},
	{"CONFIG_UNIX", "unix"},
	{"CONFIG_VSOCKETS", "vsock"},
	{"CONFIG_VSOCKETS_LOOPBACK", "vsock_loopback"},
	{"CONFIG_XDP_SOCKETS", ""},
}

// hostParams are module parameters that decide something, as MODULE.NAME. They
// are there for modules that are built in, too.
var hostParams = []string{"ipv6.disable", "secretmem.enable"}

// hostCiphers are the algorithms of /proc/crypto that decide something: a
// functional test that used an absent one would make the kernel load it.
var hostCiphers = []string{"gcm(aes)"}

// judgeHost names the machine and the process.
func judgeHost(f *Facts) Host {
	h := f.Host
	return Host{
		OS:       cmp.Or(h.OS, runtime.GOOS),
		Kernel:   h.Kernel,
		Arch:     h.Arch,
		UID:      h.UID,
		Lockdown: cmp.Or(h.Lockdown, "unknown"),
		Seccomp:  cmp.Or(h.Seccomp, "unknown"),
		Sandbox:  h.Sandbox,
	}
}
