package zctls_test

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zctls"
)

// A file server over TLS has its files encrypted by the kernel, where that can.
func ExampleNewListener() {
	cert, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	type key struct{}
	srv := http.Server{
		Handler: http.FileServer(http.Dir("/srv/files")),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, key{}, c) // for ConnectionState, as Request.TLS is nil
		},
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	log.Fatal(srv.Serve(zctls.NewListener(l, config, transmit.ConnOptions{})))
}
