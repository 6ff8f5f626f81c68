//go:build !linux

package transmit

import (
	"errors"
	"os"
)

type mappingOps struct{}

func newMappingOps() mappingOps { return mappingOps{} }

func (mappingOps) mapFile(f *os.File, _, _ int64) (*region, error) {
	return nil, &SourceError{f.Name(), "a file on this system", errors.ErrUnsupported}
}

func (mappingOps) identify(f *os.File) (fileID, error) {
	return fileID{}, &SourceError{f.Name(), "a file on this system", errors.ErrUnsupported}
}

func (mappingOps) unmap([]byte) error { return nil }

func (mappingOps) faultIn([]byte) error { return errors.ErrUnsupported }

func (mappingOps) prefetch([]byte) error { return errors.ErrUnsupported }

func (mappingOps) sample(*os.File, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }

func (*region) resident([]byte, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }
