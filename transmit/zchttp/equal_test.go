package zchttp_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// ask writes requests to a connection of their own, the last of which closes it, and
// returns all that comes back.
func ask(t testing.TB, addr, requests string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, requests); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	return got
}

var (
	dateLine = regexp.MustCompile(`\r\nDate: [^\r]*`)
	boundary = regexp.MustCompile(`boundary=([0-9a-f]{60})`)
)

// comparable takes out of responses what is never the same.
func comparable(p []byte) []byte {
	if m := boundary.FindSubmatch(p); m != nil {
		p = bytes.ReplaceAll(p, m[1], []byte("BOUNDARY"))
	}
	return dateLine.ReplaceAll(p, nil)
}

// request makes one.
func request(method, path string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: test\r\n%s\r\n", method, path, strings.Join(append(headers, ""), "\r\n"))
}

const closing = "Connection: close"

// fileRequests are for what serves as http.FileServer does.
func fileRequests() map[string]string {
	const f = "/f262144.txt"
	all := map[string]string{}
	for name, headers := range map[string][]string{
		"range":                 {"Range: bytes=1000-199999"},
		"first bytes":           {"Range: bytes=0-9"},
		"last bytes":            {"Range: bytes=-100000"},
		"the rest":              {"Range: bytes=5-"},
		"beyond the end":        {"Range: bytes=262144-"},
		"no range":              {"Range: bytes=x"},
		"other unit":            {"Range: pages=1-2"},
		"two ranges":            {"Range: bytes=0-99999,150000-150009"},
		"ranges of all kinds":   {"Range: bytes= 0-0 ,, 7-, -1,5000-40000 , 300000-300001"},
		"empty last range":      {"Range: bytes=0-5000,-0"},
		"ranges out of order":   {"Range: bytes=200000-262143, 0-50000"},
		"too many ranges":       {"Range: bytes=0-262143,0-262143"},
		"one of two":            {"Range: bytes=0-99999,300000-"},
		"both beyond the end":   {"Range: bytes=300000-, 400000-"},
		"one of two is none":    {"Range: bytes=0-99999,9-8"},
		"modified since":        {"If-Modified-Since: Wed, 04 Mar 2026 05:06:06 GMT"},
		"not modified":          {"If-Modified-Since: Wed, 04 Mar 2026 05:06:07 GMT"},
		"unmodified":            {"If-Unmodified-Since: Wed, 04 Mar 2026 05:06:06 GMT"},
		"none match":            {`If-None-Match: *`},
		"match":                 {`If-Match: "x"`, "Range: bytes=0-5,7-9"},
		"if range":              {"If-Range: Wed, 04 Mar 2026 05:06:07 GMT", "Range: bytes=1-70000"},
		"if range of the past":  {"If-Range: Wed, 04 Mar 2026 05:06:06 GMT", "Range: bytes=1-70000,80000-90000"},
		"if range, two ranges":  {"If-Range: Wed, 04 Mar 2026 05:06:07 GMT", "Range: bytes=1-70000,80000-90000"},
		"expect":                {"Expect: 100-continue", "Content-Length: 0"},
		"ranges of small parts": {"Range: bytes=1-2,4-5,7-8"},
	} {
		all[name] = request("GET", f, append(headers, closing)...)
		all["HEAD, "+name] = request("HEAD", f, append(headers, closing)...)
		all["without a type, "+name] = request("GET", strings.TrimSuffix(f, ".txt"), append(headers, closing)...)
	}
	all["small, ranges"] = request("GET", "/f3072", "Range: bytes=0-1,-1000", closing)
	all["empty, ranges"] = request("GET", "/f0", "Range: bytes=0-1,-1000", closing)
	all["index"] = request("GET", "/index/", closing)
	all["index, ranges"] = request("GET", "/index/", "Range: bytes=0-9,5000-9999", closing)
	all["redirected from the index"] = request("GET", "/index/index.html", closing)
	all["list"] = request("GET", "/list/", closing)
	all["list, ranges"] = request("GET", "/list/", "Range: bytes=0-9,11-12", closing)
	all["redirect"] = request("GET", "/list", closing)
	all["redirect of a file"] = request("GET", "/f0/", closing)
	all["not there"] = request("GET", "/nothing", closing)
	all["below a file"] = request("GET", "/f0/x", closing)
	all["above"] = request("GET", "/../../etc/passwd", closing)
	all["bad name"] = request("GET", "/%00", closing)
	return all
}

// allRequests are for every shape.
func allRequests() map[string]string {
	all := map[string]string{
		"HTTP/1.0":       "GET /f262144.txt HTTP/1.0\r\n\r\n",
		"HTTP/1.0 kept":  "GET /f262144.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /f1 HTTP/1.0\r\n\r\n",
		"with a body":    request("POST", "/f16384", "Content-Length: 4", closing) + "body",
		"nothing of it":  request("POST", "/f16384", "Content-Length: 9", closing) + "body of it",
		"with something": request("GET", "/f262144.txt", closing) + "rubbish",
	}
	var pipelined strings.Builder
	for _, n := range siteSizes {
		path := fmt.Sprintf("/f%d", n)
		all[path] = request("GET", path, closing)
		all[path+".txt"] = request("GET", path+".txt", closing)
		all["HEAD "+path] = request("HEAD", path, closing)
		pipelined.WriteString(request("GET", path) + request("HEAD", path))
	}
	all["pipelined"] = pipelined.String() + request("GET", "/f513", closing)
	return all
}

// TestEqualToNetHTTP has every shape answer every request as net/http does, byte for
// byte but for the date.
func TestEqualToNetHTTP(t *testing.T) {
	s := newSite(t)
	for _, sh := range shapes {
		t.Run(sh.name, func(t *testing.T) {
			plain, _ := serve(t, sh.plain(s), nil)
			ours := sh.ours
			if ours == nil {
				ours = sh.plain
			}
			var copies reports
			ourAddr := serveOurs(t, ours(s), transmit.ConnOptions{OnCopy: copies.add})
			requests := allRequests()
			if sh.files {
				for name, r := range fileRequests() {
					requests[name] = r
				}
			}
			for name, r := range requests {
				want, got := comparable(ask(t, plain, r)), comparable(ask(t, ourAddr, r))
				if !bytes.Equal(got, want) {
					at := 0
					for at < min(len(got), len(want)) && got[at] == want[at] {
						at++
					}
					t.Errorf("%s: %d bytes, net/http has %d; they differ at %d:\n%.300q\nnet/http:\n%.300q",
						name, len(got), len(want), at, got[max(at-100, 0):], want[max(at-100, 0):])
				}
			}
			way := sh.way
			if sh.name == "copy in chunks" {
				way = transmit.Sendfile // HTTP/1.0 has no chunks
			}
			copies.check(t, way, !strings.HasPrefix(sh.name, "zchttp."))
		})
	}
}

// TestContent compares what is served with what is there.
func TestContent(t *testing.T) {
	s := newSite(t)
	for _, sh := range shapes {
		ours := sh.ours
		if ours == nil {
			ours = sh.plain
		}
		addr := serveOurs(t, ours(s), transmit.ConnOptions{})
		for _, n := range siteSizes {
			path := fmt.Sprintf("/f%d", n)
			resp, err := http.Get("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(got, s.files[path]) {
				t.Errorf("%s%s: %d bytes, %v", sh.name, path, len(got), err)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// reports collects what connections say about copies.
type reports struct {
	mu  sync.Mutex
	all []transmit.CopyReport
}

func (r *reports) add(c transmit.CopyReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, c)
}

// check wants all copies to have gone one way, and "" none to have been made. pipes
// lets pass what http.ServeContent makes of several ranges.
func (r *reports) check(t *testing.T, way transmit.Backend, pipes bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.all {
		if c.Bytes == 0 || c.Source == "*io.PipeReader" && pipes {
			continue
		}
		n++
		if c.Way != way {
			t.Errorf("a copy of %d bytes from %s went by %s, want %s: %s", c.Bytes, c.Source, c.Way, way, c.Reason)
		}
		if c.Err != nil {
			t.Errorf("a copy from %s: %v", c.Source, c.Err)
		}
	}
	if (way != "") != (n > 0) {
		t.Errorf("%d copies by the connection, want the way %q", n, way)
	}
}
