package zctls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/zcprobe/zcprobe/transmit"
)

// guard is the connection as crypto/tls sees it. Once the kernel has the key it lets
// nothing more out: crypto/tls would encrypt it under the same key and number as the
// kernel's first record, which gives the content of both away.
type guard struct {
	net.Conn
	mu      sync.RWMutex
	closed  bool
	tripped atomic.Bool
}

func (g *guard) Write(p []byte) (int, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		g.tripped.Store(true)
		return 0, ErrKeyUpdate
	}
	return g.Conn.Write(p)
}

// shut lets nothing more out, or again.
func (g *guard) shut(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
}

// keyLog keeps one secret of one connection.
type keyLog struct {
	label string

	mu    sync.Mutex
	found []byte
}

// listen returns a config that logs to l as well, and that sends no session tickets.
func (l *keyLog) listen(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.SessionTicketsDisabled = true
	config.KeyLogWriter = keyLogTo{l, config.KeyLogWriter}
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err == nil && chosen != nil {
				chosen = l.listen(chosen)
			}
			return chosen, err
		}
	}
	return config
}

type keyLogTo struct {
	log   *keyLog
	other io.Writer
}

// Write gets a line at a time.
func (t keyLogTo) Write(p []byte) (int, error) {
	line, err := transmit.ParseKeyLogLine(p)
	if err == nil && line.Label == t.log.label {
		t.log.mu.Lock()
		t.log.found = line.Secret
		t.log.mu.Unlock()
	}
	if t.other != nil {
		return t.other.Write(p)
	}
	return len(p), nil // what is not understood is no reason to end a handshake
}

func (l *keyLog) secret() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found == nil {
		return nil, errors.New("zctls: crypto/tls logged no secret of what is sent")
	}
	return bytes.Clone(l.found), nil
}

func (l *keyLog) forget() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.found)
	l.found = nil
}
