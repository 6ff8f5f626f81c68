// Package sys is the seam to the kernel: every raw system call, ioctl and use
// of unsafe is here, each function one call and no decision. What a result
// means is decided above.
//
// Errors are made by [Wrap]: they name the call as strace would, unwrap to the
// syscall.Errno, and match errors.ErrUnsupported or fs.ErrPermission where the
// number means that.
package sys
