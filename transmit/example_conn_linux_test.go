package transmit_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"github.com/zcprobe/zcprobe/transmit"
)

// A file behind other readers still goes by sendfile, where io.Copy to the connection
// itself would read and write it.
func ExampleWrap() {
	f, err := os.CreateTemp("", "transmit-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	received := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, c)
		received <- n
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := transmit.Wrap(c, transmit.ConnOptions{
		OnCopy: func(r transmit.CopyReport) { fmt.Println(r.Source, "to", r.Target, "by", r.Way, r.Bytes) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(conn, io.NewSectionReader(f, 0, 1<<20)); err != nil {
		log.Fatal(err)
	}
	conn.Close()
	fmt.Println(<-received)
	// Output:
	// file to tcp by sendfile 1048576
	// 1048576
}

// What keeps a copy from the kernel's ways is told.
func ExampleCopy() {
	f, err := os.CreateTemp("", "transmit-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	report, err := transmit.Copy(f, strings.NewReader("a text in memory"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Bytes, "bytes to a", report.Target, "by", report.Way)
	// Output: 16 bytes to a file by write
}
