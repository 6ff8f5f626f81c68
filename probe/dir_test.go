package probe

import (
	"slices"
	"strings"
	"testing"
)

func TestJudgeDirs(t *testing.T) {
	seen := func(id string, kv ...any) Outcome {
		o := Outcome{ID: id, Seen: map[string]int64{}, Steps: []Step{{Op: "sendfile"}}}
		for i := 0; i < len(kv); i += 2 {
			o.Seen[kv[i].(string)] = int64(kv[i+1].(int))
		}
		return o
	}
	failed := func(id, op, errno string) Outcome {
		return Outcome{ID: id, Steps: []Step{{Op: "open O_TMPFILE"}, {Op: op, Errno: errno}}}
	}
	refused := func(errno string) Outcome {
		return Outcome{ID: "dir.sendfile", Seen: map[string]int64{"refused": 3}, Steps: []Step{{Op: "sendfile", Errno: errno}}}
	}
	for _, c := range []struct {
		what   string
		id     string
		o      Outcome
		edit   func(*DirFacts)
		want   FeatureStatus
		detail string
	}{
		{"equal", "dir.sendfile", seen("dir.sendfile", "equal", 3), nil, Supported, "tried with 3 files; 25 % of 4000 bytes of 5 files"},
		{"equal, of more", "dir.sendfile", seen("dir.sendfile", "equal", 1), func(d *DirFacts) { d.More = true }, Supported, "tried with 1 file; 25 % of 4000 bytes of the first 5 files"},
		{"one differs", "dir.sendfile", seen("dir.sendfile", "equal", 2, "differ", 1), nil, Unsupported, "other bytes than read for 1 of 3 files"},
		{"some changed", "dir.sendfile", seen("dir.sendfile", "equal", 2, "changed", 6), nil, Supported, "tried with 2 files"},
		{"all changed", "dir.sendfile", seen("dir.sendfile", "changed", 3), nil, UnknownFeature, "changed or went away"},
		{"EINVAL", "dir.sendfile", refused("EINVAL"), nil, Unsupported, "EINVAL for 3 files"},
		{"filtered", "dir.sendfile", refused("EPERM"), nil, UnknownFeature, "seccomp"},
		{"broken disk", "dir.sendfile", refused("EIO"), nil, UnknownFeature, "EIO"},
		{"mixed", "dir.sendfile", seen("dir.sendfile", "equal", 2, "refused", 1), nil, UnknownFeature, "works for 2 of 3"},
		{"no files", "dir.sendfile", Outcome{ID: "dir.sendfile", NotTried: "no file"}, func(d *DirFacts) { *d = DirFacts{Path: d.Path, FSType: "ext4"} }, UnknownFeature, "no regular file"},
		{"none may be read", "dir.sendfile", Outcome{ID: "dir.sendfile", NotTried: "no file"}, func(d *DirFacts) { d.FilesTried, d.FilesDenied = 0, 5 }, UnknownFeature, "5 could not be opened"},
		{"all empty", "dir.sendfile", Outcome{ID: "dir.sendfile", NotTried: "no file"}, func(d *DirFacts) { d.FilesTried = 0 }, UnknownFeature, "empty"},
		{"procfs", "dir.splice", Outcome{ID: "dir.splice", NotTried: "no file"}, func(d *DirFacts) { d.FSType = "proc" }, Unsupported, "proc makes content"},
		{"FUSE", "dir.sendfile", seen("dir.sendfile", "equal", 1), func(d *DirFacts) { d.FSType = "fuse.x" }, Supported, "; fuse.x is served by a program"},
		{"DAX", "dir.sendfile", seen("dir.sendfile", "equal", 1), func(d *DirFacts) { d.DAX = 1 }, Supported, "DAX"},
		{"denied", "dir.sendfile", Outcome{}, func(d *DirFacts) { d.Error, d.Errno = "open /srv: permission denied", "EACCES" }, Denied, "permission denied"},
		{"absent", "reflink", Outcome{}, func(d *DirFacts) { d.Error, d.Errno = "open /srv: no such file", "ENOENT" }, UnknownFeature, "no such file"},
		{"hung", "file.lease", Outcome{}, func(d *DirFacts) { d.Error = "did not answer" }, UnknownFeature, "did not answer"},

		{"clone", "reflink", seen("reflink", "equal", 1), nil, Supported, "share"},
		{"clone lies", "reflink", seen("reflink", "equal", 0), nil, Unsupported, "other content"},
		{"no clone", "reflink", failed("reflink", "ioctl FICLONE", "EOPNOTSUPP"), nil, Unsupported, "ext4 cannot share"},
		{"clone fails", "reflink", failed("reflink", "ioctl FICLONE", "EIO"), nil, UnknownFeature, "EIO"},
		{"read-only", "reflink", failed("reflink", "openat O_CREAT", "EROFS"), nil, UnknownFeature, "EROFS"},
		{"not ours", "reflink", failed("reflink", "openat O_CREAT", "EACCES"), nil, Denied, "EACCES"},
		{"full", "file.lease", failed("file.lease", "write", "ENOSPC"), nil, UnknownFeature, "ENOSPC"},
		{"not allowed", "reflink", Outcome{ID: "reflink", NotTried: "not allowed (--write-test)"}, nil, SkippedFeature, "--write-test"},
		{"lease", "file.lease", seen("file.lease", "held", 1), nil, Supported, "lease"},
		{"lease on NFS", "file.lease", seen("file.lease", "held", 1), func(d *DirFacts) { d.FSType = "nfs" }, Supported, "elsewhere"},
		{"lease not held", "file.lease", seen("file.lease", "held", 0), nil, Unsupported, "no lease"},
		{"no leases", "file.lease", failed("file.lease", "fcntl F_SETLEASE F_RDLCK", "EINVAL"), nil, Unsupported, "EINVAL"},
		{"lease in the way", "file.lease", failed("file.lease", "fcntl F_SETLEASE F_RDLCK", "EAGAIN"), nil, UnknownFeature, "EAGAIN"},
	} {
		d := DirFacts{Path: "/srv", FSType: "ext4", Mount: "/", FilesSeen: 5, FilesLooked: 5, FilesTried: 3, FileBytes: 4000, CacheKnownBytes: 4000,
			CacheBytes: 1000, CacheSource: "cachestat", Outcomes: []Outcome{c.o}}
		if c.edit != nil {
			c.edit(&d)
		}
		f := featureNamed(judgeDirs(&Facts{Dirs: []DirFacts{d}}), c.id)
		if f.Status != c.want || !strings.Contains(f.Detail, c.detail) || f.Subject != "/srv" || f.Evidence == nil {
			t.Errorf("%s: %+v, want %s, %q", c.what, f, c.want, c.detail)
		}
	}
	for _, f := range judgeDirs(&Facts{}) {
		if f.Status != SkippedFeature || f.Detail != noDir {
			t.Errorf("without a directory: %+v", f)
		}
	}
	d := DirFacts{Path: "/srv", FSType: "ext4", Outcomes: []Outcome{seen("dir.sendfile", "equal", 1)}}
	f := Facts{Dirs: []DirFacts{d}, Host: HostFacts{Sandbox: "gvisor"}}
	if got := featureNamed(judgeDirs(&f), "dir.sendfile"); !strings.Contains(got.Detail, "copies every byte") {
		t.Errorf("in gVisor: %+v", got)
	}
}

func TestFSKind(t *testing.T) {
	for name, want := range map[string]fsKind{"ext4": fsLocal, "fuse.sshfs": fsFUSE, "fuseblk.ntfs": fsFUSE, "ext4.x": fsUnknown, "virtiofs": fsShared,
		"smb3": fsNetwork, "erofs": fsReadOnly, "cgroup2": fsPseudo, "": fsUnknown, "secret": fsUnknown} {
		if got := fsKindOf(&DirFacts{FSType: name}); got != want {
			t.Errorf("%q is %d, want %d", name, got, want)
		}
	}
	for magic, name := range fsMagics {
		if _, ok := fsKinds[name]; !ok {
			t.Errorf("0x%x is %q, which has no kind", magic, name)
		}
	}
}

func featureNamed(fs []Feature, id string) Feature {
	if i := slices.IndexFunc(fs, func(f Feature) bool { return f.ID == id }); i >= 0 {
		return fs[i]
	}
	return Feature{}
}

func hazardNamed(hs []Hazard, id string) Hazard {
	if i := slices.IndexFunc(hs, func(h Hazard) bool { return h.ID == id }); i >= 0 {
		return hs[i]
	}
	return Hazard{}
}
