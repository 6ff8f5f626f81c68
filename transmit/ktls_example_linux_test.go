package transmit_test

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"os"

	"github.com/zcprobe/zcprobe/transmit"
)

// keyLog keeps the secret of what a server sends.
type keyLog struct{ secret []byte }

func (l *keyLog) Write(p []byte) (int, error) {
	if line, err := transmit.ParseKeyLogLine(p); err == nil && line.Label == transmit.ServerTrafficSecret {
		l.secret = line.Secret
	}
	return len(p), nil
}

// A server shakes hands by crypto/tls, and sends a file that the kernel encrypts.
// Package transmit/zctls does this for connections that are read from, too.
func ExampleEnableKTLS() {
	serve := func(ctx context.Context, c *net.TCPConn, cert tls.Certificate, f *os.File) error {
		var secrets keyLog
		t := tls.Server(c, &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13,
			SessionTicketsDisabled: true, // they would be the first records
			KeyLogWriter:           &secrets,
		})
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		keys, err := transmit.DeriveKTLSKeys(t.ConnectionState().CipherSuite, secrets.secret)
		if err != nil {
			return err
		}
		kernel, err := transmit.EnableKTLS(c, keys) // t must not be written to from here on
		if err != nil {
			return err
		}
		s, err := transmit.NewSender(c, transmit.Options{})
		if err != nil {
			return err
		}
		if _, err := s.SendFile(ctx, f, 0, -1, transmit.FileOptions{}); err != nil {
			return err
		}
		if err := kernel.CloseNotify(); err != nil {
			return err
		}
		_, err = s.Close(ctx)
		return err
	}
	cert, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		f, err := os.Open("file")
		if err != nil {
			log.Fatal(err)
		}
		log.Print(serve(context.Background(), c.(*net.TCPConn), cert, f))
	}
}
