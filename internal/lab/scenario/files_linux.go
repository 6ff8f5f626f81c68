package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

func (Files) do(p *place) error {
	p.files = true
	_, err := p.room(AtSender)
	return err
}

// mostExtents bounds in how many pieces a copy may lie.
const mostExtents = 1024

// copyFiles copies a file to others next to it, and asks the file system which blocks
// of theirs are the source's too.
func (tr *transfer) copyFiles(ctx context.Context, t Traffic) error {
	src, err := sourceFile(t)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := sharesNone(src, t); err != nil {
		return err
	}
	tr.kept, tr.reported.CopiedBytes = new(uint64), new(uint64)
	for range t.Count {
		if err := tr.copyFile(ctx, src, t); err != nil {
			return err
		}
	}
	if t.API == string(transmit.CopyFileRange) {
		tr.reported = Column{} // copy_file_range does not say what it shares
	}
	return nil
}

// sharesNone is an error where the file system lets files share blocks, and so may make
// copy_file_range no copy.
func sharesNone(src *os.File, t Traffic) error {
	if t.API != string(transmit.CopyFileRange) {
		return nil
	}
	dst, err := sourceFile(Traffic{API: t.API, Source: t.Source})
	if err != nil {
		return err
	}
	if err = sys.Clone(int(dst.Fd()), int(src.Fd())); err == nil {
		err = fmt.Errorf("files of this file system share blocks (FICLONE), and copy_file_range may make them do so: %w", errors.ErrUnsupported)
	} else if sys.Unsupported(err) || errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, dst.Close())
}

func (tr *transfer) copyFile(ctx context.Context, src *os.File, t Traffic) (err error) {
	dst, err := sourceFile(Traffic{API: t.API, Source: t.Source})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	r, err := transmit.CopyFile(ctx, dst, src, 0, 0, int64(t.Size), transmit.CopyOptions{
		Backend: transmit.Backend(t.API), FillHoles: true,
		OnDowngrade: func(d *transmit.Downgrade) { tr.refused = append(tr.refused, d) }, Logger: slog.New(slog.DiscardHandler),
	})
	tr.sent += uint64(r.Bytes)
	if err != nil {
		return err
	}
	if r.Backend != transmit.Backend(t.API) {
		tr.other += uint64(r.Bytes)
	}
	*tr.reported.CopiedBytes += uint64(r.Bytes - r.SharedBytes)
	got := make([]byte, t.Size+1)
	n, err := dst.ReadAt(got, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(got[:n], pattern(t.Size)) {
		return fmt.Errorf("the copy of %d bytes differs from its source: %w", n, io.ErrNoProgress)
	}
	own, err := ownBytes(dst, t.Size)
	if err != nil && !sys.Unsupported(err) {
		return err
	}
	if err != nil || tr.kept == nil {
		tr.kept = nil // this file system has no blocks to look at
		return nil
	}
	*tr.kept += own
	return nil
}

// ownBytes is how much of a file of size bytes lies in blocks that no other file has.
func ownBytes(f *os.File, size int) (uint64, error) {
	all, err := sys.Extents(int(f.Fd()), sys.FiemapSync, make([]sys.Extent, mostExtents))
	if err != nil {
		return 0, err
	}
	own, seen := uint64(0), uint64(0)
	for _, e := range all {
		if e.Flags&sys.ExtentUnknown != 0 {
			return 0, fmt.Errorf("where the copy lies is not told: %w", errors.ErrUnsupported)
		}
		n := min(e.Length, uint64(size)-min(e.Logical, uint64(size)))
		seen += n
		if e.Flags&sys.ExtentShared == 0 {
			own += n
		}
	}
	if seen != uint64(size) {
		return 0, fmt.Errorf("%d of %d bytes of the copy lie in blocks: %w", seen, size, errors.ErrUnsupported)
	}
	return own, nil
}
