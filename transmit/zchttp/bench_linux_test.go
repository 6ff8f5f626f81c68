package zchttp_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// benchSizes are the files of the benchmarks, and how many requests make a sample.
var benchSizes = []struct {
	name     string
	bytes    int64
	requests int
}{{"1KiB", 1 << 10, 400}, {"16KiB", 16 << 10, 400}, {"256KiB", 256 << 10, 80}, {"1MiB", 1 << 20, 40}, {"100MiB", 100 << 20, 1}}

const benchConns, benchRounds = 8, 40

// benchSite makes the files.
func benchSite(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for _, s := range benchSizes {
		f, err := os.Create(filepath.Join(dir, s.name+".bin"))
		if err != nil {
			b.Fatal(err)
		}
		block := bytes.Repeat([]byte("0123456789abcdef"), 1<<6)
		for at := int64(0); at < s.bytes; at += int64(len(block)) {
			if _, err := f.Write(block); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkServe compares servers in pairs, request by request: x-throughput is the
// ratio of their requests per second, above 1 for the first, and x-cpu that of the CPU
// time of the serving process for each byte, where both are this one.
//
//	go test -run '^$' -bench Serve -benchtime 1x ./transmit/zchttp
func BenchmarkServe(b *testing.B) {
	dir := benchSite(b)
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	b.Cleanup(func() { _ = kept.Close() })
	root := os.DirFS(dir)
	plainDir, plainFS := http.FileServer(http.Dir(dir)), http.FileServerFS(root)
	mapped := zchttp.FileServer(root, zchttp.Options{File: transmit.FileOptions{Mappings: kept}})

	std := func(h http.Handler) string { addr, _ := serve(b, h, nil); return addr }
	our := func(h http.Handler) string { return serveOurs(b, h, transmit.ConnOptions{}) }
	servers := map[string]string{
		"std":         std(plainDir),
		"std-fs":      std(plainFS),
		"std-wrapped": std(recorded(plainDir)),
		"our":         our(plainDir),
		"our-fs":      our(plainFS),
		"our-wrapped": our(recorders(plainDir)),
		"zchttp":      our(mapped),
		"zchttp-std":  std(fileServer(root)),
		"nginx":       startNginx(b, dir),
	}
	ask := startClient(b)
	for _, pair := range [][2]string{
		{"our", "std"},                 // the listener, nothing else
		{"our-fs", "std-fs"},           // FileServerFS: net/http copies
		{"our-wrapped", "std-wrapped"}, // middleware: net/http copies
		{"zchttp", "std"},              // the file server, with what net/http does best
		{"zchttp-std", "std-fs"},       // the file server alone, without the listener
		{"zchttp", "nginx"},
		{"std", "nginx"},
	} {
		for _, size := range benchSizes {
			b.Run(pair[0]+"_"+pair[1]+"/"+size.name, func(b *testing.B) {
				if servers[pair[0]] == "" || servers[pair[1]] == "" {
					b.Skip("needs the tool nginx")
				}
				way := func(name string) benchpair.Way {
					return func(context.Context) (benchpair.Sample, error) {
						return benchpair.Measure(benchpair.Process, func() (int64, error) {
							n, err := ask(servers[name], "/"+size.name+".bin", benchConns, size.requests)
							if want := size.bytes * int64(size.requests); err == nil && n != want {
								err = fmt.Errorf("%s sent %d bytes, want %d", name, n, want)
							}
							return n, err
						})
					}
				}
				ways := []benchpair.Way{way(pair[0]), way(pair[1])}
				for b.Loop() {
					if _, err := benchpair.Rounds(b.Context(), 2, ways...); err != nil {
						b.Fatal(err)
					}
					s, err := benchpair.Rounds(b.Context(), benchRounds, ways...)
					if err != nil {
						b.Fatal(err)
					}
					c := benchpair.Compare(s[0], s[1])
					b.ReportMetric(benchpair.Throughput(s[0]).Median/float64(size.bytes), "req/s")
					b.ReportMetric(c.Throughput.Median, "x-throughput")
					b.ReportMetric(c.Throughput.Low, "x-low")
					b.ReportMetric(c.Throughput.High, "x-high")
					if pair[1] != "nginx" {
						b.ReportMetric(c.CPUPerByte.Median, "x-cpu")
					}
				}
			})
		}
	}
}

// startNginx serves the directory by nginx, "" without it.
func startNginx(b *testing.B, dir string) string {
	b.Helper()
	exe, err := exec.LookPath("nginx")
	if err != nil {
		if exe = "/usr/sbin/nginx"; !exists(exe) {
			return ""
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	run := b.TempDir()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := filepath.Join(run, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `%s
daemon off; worker_processes auto; pid %[2]s/pid; error_log %[2]s/error crit;
events { worker_connections 256; }
http {
	sendfile on; tcp_nopush off; access_log off; keepalive_requests 1000000000; etag off;
	client_body_temp_path %[2]s; proxy_temp_path %[2]s; fastcgi_temp_path %[2]s; uwsgi_temp_path %[2]s; scgi_temp_path %[2]s;
	open_file_cache off; default_type application/octet-stream;
	server { listen %[3]s; root %[4]s; }
}
`, user, run, addr, dir), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe, "-p", run, "-c", conf, "-e", filepath.Join(run, "error"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // the master ends its workers
		_ = cmd.Wait()
	})
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatalf("nginx does not start: %s", &said)
	return ""
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
