package probe

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// ordinary is a process of an ordinary user on a kernel of today.
func ordinary() LimitFacts {
	return LimitFacts{UID: 1000, HasUID: true, PageSize: 4096, Memlock: &Rlimit{8 << 20, 8 << 20}, Nofile: &Rlimit{1024, 4096},
		VmLckBytes: new(uint64(0)), VmPinBytes: new(uint64(0)), OthersPinBytes: new(uint64(0)),
		CapIPCLock: new(false), CapPipe: new(false), CapPipePages: new(false), InitUserNS: new(true), Seccomp: "none",
		Sysctls: map[string]string{"net.core.optmem_max": "131072", "net.core.wmem_max": "212992", "net.ipv4.tcp_wmem": "4096\t16384\t4194304",
			"fs.pipe-max-size": "1048576", "fs.pipe-user-pages-soft": "16384", "fs.pipe-user-pages-hard": "0", "kernel.io_uring_disabled": "0"},
		CompletionBytes: new(uint64(832))}
}

func TestJudgeLimits(t *testing.T) {
	memlock := func(soft, hard uint64) func(*LimitFacts) {
		return func(f *LimitFacts) { f.Memlock = &Rlimit{soft, hard} }
	}
	sysctl := func(name, value string) func(*LimitFacts) {
		return func(f *LimitFacts) { f.Sysctls[name] = value }
	}
	root := func(f *LimitFacts) {
		f.UID, f.CapIPCLock, f.CapPipe, f.CapPipePages = 0, new(true), new(true), new(true)
	}
	for _, c := range []struct {
		name    string
		edit    []func(*LimitFacts)
		o       Options
		check   string
		want    CheckStatus
		detail  string
		remedy  string
		subject string
	}{
		{name: "enough", check: "memlock", want: Pass, detail: "7372800"}, // 100 x 18 pages
		{name: "unlimited", edit: []func(*LimitFacts){memlock(unlimited, unlimited)}, check: "memlock", want: Pass, detail: "no limit"},
		{name: "none", edit: []func(*LimitFacts){memlock(0, 0)}, check: "memlock", want: Fail, detail: "every zero-copy send fails", remedy: "LimitMEMLOCK=7372800"},
		{name: "not one send", edit: []func(*LimitFacts){memlock(64<<10, 64<<10)}, check: "memlock", want: Fail, detail: "over 61439 bytes", remedy: "ulimit -l 7200"},
		{name: "hard limit allows it", edit: []func(*LimitFacts){memlock(64<<10, unlimited)}, check: "memlock", want: Fail, remedy: "ulimit -S -l 7200"},
		{name: "not all connections", edit: []func(*LimitFacts){memlock(1<<20, 1<<20)}, check: "memlock", want: Warn, detail: "hold 14 zero-copy sends", remedy: "LimitMEMLOCK=7372800"},
		{name: "a page short", edit: []func(*LimitFacts){memlock(7372800-1, 7372800)}, check: "memlock", want: Warn},
		{name: "exactly", edit: []func(*LimitFacts){memlock(7372800, 7372800)}, check: "memlock", want: Pass},
		{name: "long fat pipe", o: Options{Load: Load{BandwidthBytesPerSec: 12_500_000_000, RTT: 100 * time.Millisecond, Connections: 1}},
			check: "memlock", want: Warn, detail: "100 Gbit/s over 1 connection with 100ms"},
		{name: "more than fits a number", o: Options{Load: Load{BandwidthBytesPerSec: math.MaxUint64, RTT: time.Hour, Connections: math.MaxUint64}},
			check: "memlock", want: Warn, remedy: "infinity"},
		{name: "others have pinned", edit: []func(*LimitFacts){func(f *LimitFacts) { f.OthersPinBytes = new(uint64(4 << 20)) }},
			check: "memlock", want: Warn, detail: "4194304 bytes pinned"},
		{name: "not read", edit: []func(*LimitFacts){func(f *LimitFacts) { f.Memlock, f.Errors = nil, []string{"max locked memory: denied"} }},
			check: "memlock", want: Unknown, detail: "denied"},
		{name: "root", edit: []func(*LimitFacts){root, memlock(8<<20, 8<<20)}, check: "memlock", want: Pass, detail: "at most 8388608 bytes if it inherited ours: enough"},
		{name: "root with little to inherit", edit: []func(*LimitFacts){root, memlock(64<<10, 64<<10)}, check: "memlock", want: Pass, detail: "always fail with ENOBUFS"},
		{name: "root of a user namespace", edit: []func(*LimitFacts){root, memlock(64<<10, 64<<10), func(f *LimitFacts) { f.InitUserNS = new(false) }},
			check: "memlock", want: Fail},
		{name: "user namespace not known", edit: []func(*LimitFacts){root, memlock(64<<10, 64<<10), func(f *LimitFacts) { f.InitUserNS = nil }},
			check: "memlock", want: Unknown, detail: "could not tell whether CAP_IPC_LOCK"},
		{name: "capability not known, limit enough", edit: []func(*LimitFacts){func(f *LimitFacts) { f.CapIPCLock = nil }}, check: "memlock", want: Pass},
		{name: "another process", edit: []func(*LimitFacts){memlock(0, 0), func(f *LimitFacts) { f.PID = 77 }}, check: "memlock", want: Fail,
			remedy: "prlimit --pid 77 --memlock=7372800:7372800", subject: "pid 77"},
		{name: "service, from root", edit: []func(*LimitFacts){root}, o: Options{ServiceUID: new(uint32(33)), ServiceMemlock: new(uint64(65536))},
			check: "memlock", want: Fail, detail: "over 61439", remedy: "LimitMEMLOCK=7372800 in the [Service]", subject: "uid 33"},
		{name: "service that inherits", edit: []func(*LimitFacts){root}, o: Options{ServiceUID: new(uint32(33))}, check: "memlock", want: Pass, detail: "8388608"},
		{name: "service of root", edit: []func(*LimitFacts){root}, o: Options{ServiceUID: new(uint32(0)), ServiceMemlock: new(uint64(0))}, check: "memlock", want: Pass, detail: "CAP_IPC_LOCK"},
		{name: "service of root, from an ordinary user", o: Options{ServiceUID: new(uint32(0)), ServiceMemlock: new(uint64(0))}, check: "memlock", want: Unknown},
		{name: "limit alone", o: Options{ServiceMemlock: new(uint64(0))}, check: "memlock", want: Fail, subject: "uid 1000"},

		{name: "optmem", check: "optmem", want: Pass, detail: "completions of 157 sends"},
		{name: "optmem of 5.10", edit: []func(*LimitFacts){sysctl("net.core.optmem_max", "20480")}, check: "optmem", want: Pass, detail: "24 sends"},
		{name: "optmem, a completion not measured", edit: []func(*LimitFacts){func(f *LimitFacts) { f.CompletionBytes = nil }}, check: "optmem", want: Pass, detail: "136 sends"},
		{name: "optmem, one connection over a continent", edit: []func(*LimitFacts){sysctl("net.core.optmem_max", "20480")},
			o: Options{Load: Load{RTT: 50 * time.Millisecond, Connections: 1}}, check: "optmem", want: Warn, detail: "954 in flight", remedy: "sysctl -w net.core.optmem_max=793728"},
		{name: "optmem, no room", edit: []func(*LimitFacts){sysctl("net.core.optmem_max", "512")}, check: "optmem", want: Fail, remedy: "=131072"},
		{name: "optmem, another process", edit: []func(*LimitFacts){sysctl("net.core.optmem_max", "0"), func(f *LimitFacts) { f.PID = 5 }},
			check: "optmem", want: Fail, remedy: "nsenter -t 5 -n sysctl -w"},
		{name: "optmem not read", edit: []func(*LimitFacts){func(f *LimitFacts) { delete(f.Sysctls, "net.core.optmem_max") }}, check: "optmem", want: Unknown},
		{name: "optmem nonsense", edit: []func(*LimitFacts){sysctl("net.core.optmem_max", "x")}, check: "optmem", want: Unknown},
		{name: "optmem found", edit: []func(*LimitFacts){func(f *LimitFacts) { delete(f.Sysctls, "net.core.optmem_max"); f.OptmemFound = new(uint64(20480)) }},
			check: "optmem", want: Pass, detail: "24 sends"},
		{name: "optmem at the bound of the trial", edit: []func(*LimitFacts){func(f *LimitFacts) {
			delete(f.Sysctls, "net.core.optmem_max")
			f.OptmemFound = new(uint64(optmemMost))
		}}, o: Options{Load: Load{RTT: 50 * time.Millisecond, Connections: 1}}, check: "optmem", want: Unknown, detail: "at least 262144"},

		{name: "pipe", check: "pipe", want: Pass, detail: "64 of 1 MiB"},
		{name: "pipe small", edit: []func(*LimitFacts){sysctl("fs.pipe-max-size", "65536")}, check: "pipe", want: Warn, remedy: "fs.pipe-max-size=1048576"},
		{name: "pipe small, may grow", edit: []func(*LimitFacts){root, sysctl("fs.pipe-max-size", "65536")}, check: "pipe", want: Pass},
		{name: "pipes soft", edit: []func(*LimitFacts){sysctl("fs.pipe-user-pages-soft", "1024")}, check: "pipe", want: Warn, detail: "after 64 pipes", remedy: "soft=1600"},
		{name: "pipes soft, exempt", edit: []func(*LimitFacts){root, sysctl("fs.pipe-user-pages-soft", "1024")}, check: "pipe", want: Pass},
		{name: "pipes soft, root of a user namespace", edit: []func(*LimitFacts){root, sysctl("fs.pipe-user-pages-soft", "1024"), func(f *LimitFacts) { f.InitUserNS = new(false) }},
			check: "pipe", want: Warn},
		{name: "pipes hard", edit: []func(*LimitFacts){sysctl("fs.pipe-user-pages-hard", "160")}, check: "pipe", want: Warn, detail: "at most 10 pipes"},
		{name: "pipes not read", edit: []func(*LimitFacts){func(f *LimitFacts) { delete(f.Sysctls, "fs.pipe-user-pages-soft") }}, check: "pipe", want: Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := ordinary()
			for _, edit := range c.edit {
				edit(&f)
			}
			got := checkNamed(judgeLimits(&Facts{Limits: f}, c.o), "limit."+c.check)
			if got.Status != c.want || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Remedy, c.remedy) ||
				c.subject != "" && got.Subject != c.subject {
				t.Errorf("%+v\nwant %s, detail %q, remedy %q, subject %q", got, c.want, c.detail, c.remedy, c.subject)
			}
			bad := got.Status == Fail || got.Status == Warn
			if bad && (len(got.Causes) == 0 || got.Remedy == "") || got.Status == Pass && (len(got.Causes) > 0 || got.Remedy != "") {
				t.Errorf("causes %q and remedy %q of a %s", got.Causes, got.Remedy, got.Status)
			}
			for _, id := range got.Causes {
				if _, ok := LookupCause(id); !ok {
					t.Errorf("cause %q is not in the catalogue", id)
				}
			}
		})
	}
}

func checkNamed(l Limits, id string) Check {
	i := slices.IndexFunc(l.Checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		return Check{}
	}
	return l.Checks[i]
}

// What is not known is named, and nothing else is.
func TestLimitsUnknown(t *testing.T) {
	got := judgeLimits(&Facts{}, Options{})
	want := []string{"io_uring_disabled", "memlock_bytes", "memlock_exempt", "memlock_max_bytes", "memlock_used_bytes", "nofile_soft",
		"optmem_max_bytes", "pipe_max_bytes", "pipe_pages_exempt", "pipe_user_pages_hard", "pipe_user_pages_soft", "tcp_wmem_max_bytes", "uid", "wmem_max_bytes"}
	if !slices.Equal(got.Unknown, want) {
		t.Errorf("unknown %q, want %q", got.Unknown, want)
	}
	for _, c := range got.Checks {
		if c.Status != Unknown {
			t.Errorf("%+v, want unknown", c)
		}
	}
	full := judgeLimits(&Facts{Limits: ordinary()}, Options{})
	if len(full.Unknown) != 0 {
		t.Errorf("unknown %q of full facts", full.Unknown)
	}
	if full.PipeUserHardPages != nil || full.TCPWmemMaxBytes == nil || *full.TCPWmemMaxBytes != 4194304 || *full.NofileSoft != 1024 ||
		full.Connections != 100 || full.RTTNanoseconds != 1e6 || full.OptmemNeededBytes != 832 {
		t.Errorf("limits %+v", full)
	}
	fields := map[string]any{}
	b, err := json.Marshal(full)
	if err != nil || json.Unmarshal(b, &fields) != nil {
		t.Fatal(err)
	}
	for _, name := range want {
		if _, ok := fields[name]; !ok {
			t.Errorf("unknown names %q, which is no field of the report", name)
		}
	}
}

// Another process's sysctls are not taken from our namespace.
func TestLimitsOfOtherNamespace(t *testing.T) {
	f := &Facts{Host: HostFacts{Sysctls: map[string]string{"net.ipv4.tcp_wmem": "1 2 3", "fs.pipe-max-size": "4096"}}}
	if l := judgeLimits(f, Options{}); l.TCPWmemMaxBytes == nil || *l.TCPWmemMaxBytes != 3 {
		t.Errorf("own tcp_wmem %v", l.TCPWmemMaxBytes)
	}
	f.Limits.PID = 9
	if l := judgeLimits(f, Options{}); l.TCPWmemMaxBytes != nil || l.PipeMaxBytes == nil {
		t.Errorf("tcp_wmem %v, pipe-max-size %v of another process", l.TCPWmemMaxBytes, l.PipeMaxBytes)
	}
}
