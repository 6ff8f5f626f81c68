//go:build !linux

package transmit

import (
	"errors"
	"fmt"
	"net"
)

// KTLS is the sending half of a TLS connection that the kernel encrypts. Outside
// Linux there is none.
type KTLS struct{}

func ktlsAvailable() error {
	return fmt.Errorf("this operating system has none: %w", errors.ErrUnsupported)
}

func enableKTLS(*net.TCPConn, *KTLSKeys) (*KTLS, error) { return nil, ktlsAvailable() }

// CloseNotify tells the peer that nothing more follows.
func (t *KTLS) CloseNotify() error { return fmt.Errorf("transmit: %w", errors.ErrUnsupported) }

// ZerocopyFiles makes a network device that encrypts read files where they are.
func (t *KTLS) ZerocopyFiles() error { return fmt.Errorf("transmit: %w", errors.ErrUnsupported) }
