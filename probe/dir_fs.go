package probe

import "strings"

// fsKind says what of a file system matters to those who send its files.
type fsKind int

const (
	fsUnknown  fsKind = iota
	fsLocal           // one page cache serves read, sendfile and mappings, and nobody else writes
	fsReadOnly        // the same, and its files cannot change at all
	fsPseudo          // content is made when it is read
	fsFUSE            // a program serves it, and decides what is cached
	fsShared          // the host of a virtual machine serves it
	fsNetwork         // others write to it, elsewhere
)

var fsKinds = map[string]fsKind{
	"ext2": fsLocal, "ext3": fsLocal, "ext4": fsLocal, "xfs": fsLocal, "btrfs": fsLocal, "f2fs": fsLocal, "bcachefs": fsLocal,
	"jfs": fsLocal, "nilfs2": fsLocal, "reiserfs": fsLocal, "vfat": fsLocal, "exfat": fsLocal, "ntfs3": fsLocal, "ubifs": fsLocal,
	"tmpfs": fsLocal, "ramfs": fsLocal, "hugetlbfs": fsLocal, "overlay": fsLocal, "zfs": fsLocal, "rootfs": fsLocal, "devtmpfs": fsLocal,

	"squashfs": fsReadOnly, "erofs": fsReadOnly, "iso9660": fsReadOnly, "cramfs": fsReadOnly, "romfs": fsReadOnly,

	"proc": fsPseudo, "sysfs": fsPseudo, "debugfs": fsPseudo, "tracefs": fsPseudo, "cgroup": fsPseudo, "cgroup2": fsPseudo,
	"securityfs": fsPseudo, "configfs": fsPseudo, "bpf": fsPseudo, "efivarfs": fsPseudo, "devpts": fsPseudo, "mqueue": fsPseudo,
	"pstore": fsPseudo, "binfmt_misc": fsPseudo, "fusectl": fsPseudo, "rpc_pipefs": fsPseudo, "selinuxfs": fsPseudo, "smackfs": fsPseudo,
	"nsfs": fsPseudo, "nfsd": fsPseudo, "resctrl": fsPseudo, "autofs": fsPseudo,

	"fuse": fsFUSE, "fuseblk": fsFUSE,

	"9p": fsShared, "virtiofs": fsShared, "vboxsf": fsShared, "vmhgfs": fsShared, "prl_fs": fsShared, "hostfs": fsShared,

	"nfs": fsNetwork, "nfs4": fsNetwork, "cifs": fsNetwork, "smb3": fsNetwork, "smbfs": fsNetwork, "ceph": fsNetwork, "afs": fsNetwork,
	"coda": fsNetwork, "lustre": fsNetwork, "gpfs": fsNetwork, "beegfs": fsNetwork, "orangefs": fsNetwork, "glusterfs": fsNetwork,
	"ocfs2": fsNetwork, "gfs2": fsNetwork, // shared disks
}

// fsMagics holds those that must be told without a mount table; linux/magic.h.
var fsMagics = map[int64]string{
	0x9fa0: "proc", 0x62656572: "sysfs", 0x64626720: "debugfs", 0x74726163: "tracefs", 0x27e0eb: "cgroup", 0x63677270: "cgroup2",
	0x73636673: "securityfs", 0x62656570: "configfs", 0xcafe4a11: "bpf", 0xde5e81e4: "efivarfs", 0x1cd1: "devpts", 0x19800202: "mqueue",
	0x6165676c: "pstore", 0x42494e4d: "binfmt_misc", 0x67596969: "rpc_pipefs", 0xf97cff8c: "selinuxfs", 0x6e736673: "nsfs", 0x187: "autofs",
	0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0xf2f52010: "f2fs", 0x01021994: "tmpfs", 0x858458f6: "ramfs", 0x958458f6: "hugetlbfs",
	0x794c7630: "overlay", 0x2fc12fc1: "zfs", 0x73717368: "squashfs", 0xe0f5e1e2: "erofs", 0x9660: "iso9660",
	0x65735546: "fuse", 0x01021997: "9p", 0x786f4256: "vboxsf",
	0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb3", 0x00c36400: "ceph",
}

// fsName returns the type of the file system, by the mount table or else by its
// magic number, "" if neither tells.
func fsName(f *DirFacts) string {
	if f.FSType != "" {
		return f.FSType
	}
	return fsMagics[f.FSMagic]
}

func fsKindOf(f *DirFacts) fsKind {
	name, _, fuse := strings.Cut(fsName(f), ".") // "fuse.sshfs"
	if fuse && name != "fuse" && name != "fuseblk" {
		return fsUnknown
	}
	return fsKinds[name]
}

// fsCaution is what is known of a file system that no trial from here shows;
// "" for nothing.
func fsCaution(f *DirFacts) string {
	name := fsName(f)
	switch fsKindOf(f) {
	case fsPseudo:
		return name + " makes content when it is read: sendfile copies it or fails with EINVAL"
	case fsFUSE:
		return name + " is served by a program: with direct-io, sendfile gives what the page cache has instead of asking it"
	case fsShared:
		return name + " is shared with the host: sendfile may give old content after a change made there"
	case fsNetwork:
		return name + " is changed by others: sendfile gives what is cached here"
	}
	if f.DAX > 0 {
		return "files in DAX memory have no page cache: sendfile copies them"
	}
	return ""
}

// superReadOnly reports whether the file system as a whole is mounted
// read-only. A read-only mount of a writable one does not keep others out.
func superReadOnly(f *DirFacts) bool {
	for _, o := range f.SuperOptions {
		if o == "ro" {
			return true
		}
	}
	return false
}
