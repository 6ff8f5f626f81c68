package probe

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// mountEntry is a line of /proc/PID/mountinfo.
type mountEntry struct {
	id           int
	point        string
	options      []string
	fsType       string
	superOptions []string
}

var errMount = errors.New("malformed line of mountinfo")

// parseMount reads one line (fs/proc_namespace.c:show_mountinfo):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// White space in names is escaped, so a space always separates; other control
// characters are as they are.
func parseMount(line string) (m mountEntry, err error) {
	left, right, ok := strings.Cut(line, " - ")
	f, g := strings.Split(left, " "), strings.Split(right, " ")
	if !ok || len(f) < 6 || len(g) < 3 {
		return m, errMount
	}
	id, err := strconv.ParseUint(f[0], 10, 31)
	if err != nil {
		return m, errMount
	}
	return mountEntry{id: int(id), point: unescapeOctal(f[4]), options: mountOptions(f[5]),
		fsType: unescapeOctal(g[0]), superOptions: mountOptions(g[2])}, nil
}

func mountOptions(s string) []string {
	opts := strings.Split(s, ",")
	for i := range opts {
		opts[i] = unescapeOctal(opts[i])
	}
	return opts
}

// unescapeOctal undoes the \ooo of seq_escape.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// findMount returns the mount with the given id.
func findMount(mountinfo []byte, id int) (mountEntry, bool) {
	lines := bufio.NewScanner(bytes.NewReader(mountinfo))
	lines.Buffer(nil, mountFileMost)
	for lines.Scan() {
		if m, err := parseMount(lines.Text()); err == nil && m.id == id {
			return m, true
		}
	}
	return mountEntry{}, false
}

// mountFileMost bounds what is read of the mount table: at 200 bytes a line,
// 40,000 mounts.
const mountFileMost = 8 << 20

// parseMountID finds the mount of a descriptor in /proc/PID/fdinfo/FD.
func parseMountID(fdinfo []byte) (int, error) {
	for line := range strings.Lines(string(fdinfo)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.ParseUint(strings.TrimSpace(v), 10, 31)
			return int(id), err
		}
	}
	return 0, errors.New("no mnt_id in fdinfo")
}
