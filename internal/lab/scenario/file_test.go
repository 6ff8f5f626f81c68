package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
)

// printed is what lab list prints of scenarios.
func printed(t *testing.T, all []Scenario, kernel string) []byte {
	t.Helper()
	out, err := json.MarshalIndent(listFor(all, kernel), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRoundTrip reads what is printed of the catalogue: it is the catalogue.
func TestRoundTrip(t *testing.T) {
	for _, kernel := range []string{"", "5.10.0", "6.18.1"} {
		src := printed(t, Catalogue(), kernel)
		got, err := Read("list.json", src)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range Catalogue() {
			if !reflect.DeepEqual(got[i], want) {
				t.Errorf("%s came back as\n%+v, was\n%+v", want.ID, got[i], want)
			}
		}
		if len(got) != len(Catalogue()) {
			t.Errorf("%d scenarios of %d", len(got), len(Catalogue()))
		}
		hosttest.Validate(t, "scenarios.v1", src)
	}
}

// TestStepsOfFiles: every kind of step can be written, is read again, and is in the
// schema with its fields.
func TestStepsOfFiles(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Required   []string
			Properties map[string]any
		} `json:"$defs"`
	}
	src, err := os.ReadFile(hosttest.Testdata(t, "schema", "scenarios.v1.json"))
	if err == nil {
		err = json.Unmarshal(src, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	used := map[reflect.Type]bool{}
	for _, s := range Catalogue() {
		for _, step := range s.SetUp {
			used[reflect.TypeOf(step)] = true
		}
	}
	for name, step := range kinds() {
		typ := reflect.TypeOf(step)
		if !used[typ] {
			t.Errorf("no built-in scenario shows the step %s", name)
		}
		def := schema.Defs["step-"+name]
		fields, required := map[string]any{"step": nil}, []string{"step"}
		for i := range typ.NumField() {
			tag, rest, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			fields[tag] = nil
			if rest == "" {
				required = append(required, tag)
			}
		}
		for f := range fields {
			if _, ok := def.Properties[f]; !ok {
				t.Errorf("step %s: the schema has no %s", name, f)
			}
		}
		if len(def.Properties) != len(fields) || fmt.Sprint(def.Required) != fmt.Sprint(required) {
			t.Errorf("step %s: the schema has %v, of which must be there %v; the fields are %v, %v", name, def.Properties, def.Required, fields, required)
		}
	}
}

const good = `{"schema": "zcprobe/scenarios/v1", "scenarios": [{
	"id": "mine/sendfile", "summary": "a bridge whose port has no scatter-gather",
	"set_up": [{"step": "bridge"}, {"step": "off", "device": "v0", "feature": "tx-scatter-gather"}],
	"traffic": {"api": "sendfile", "protocol": "tcp", "size_bytes": 65536, "count": 8},
	"truths": [{"since": "6.1", "copied": 1, "causes": ["no-scatter-gather"], "why": "skb_segment copies"}]
}]}`

// TestBadFiles: each mistake is told with the file, the scenario and the field.
func TestBadFiles(t *testing.T) {
	if _, err := Read("f", []byte(good)); err != nil {
		t.Fatal(err)
	}
	const here = `f: scenario 1 ("mine/sendfile") `
	for _, c := range []struct{ old, new, want string }{
		{`"zcprobe/scenarios/v1"`, `"zcprobe/lab/v1"`, `f: schema: is "zcprobe/lab/v1", and "zcprobe/scenarios/v1" is understood`},
		{`]}`, `]`, "f: line "},
		{good, `[]`, "f: is no object"},
		{good, `{}`, "f: schema: is missing\nf: scenarios: is missing"},
		{good, "\xff", "f: is no UTF-8"},
		{good, good + "{}", "f: line 6: invalid character '{' after top-level value"},
		{good, strings.Repeat("[", 20000), "f: line 1: "},
		{`"traffic": {`, `"traffic": {"colour": 1, `, here + `traffic.colour: is unknown; the fields here are: api, protocol, `},
		{`"count": 8`, `"count": 8, "count": 9`, here + "traffic.count: is there twice"},
		{`"count": 8`, `"count": null`, here + "traffic.count: is no number of its range: null is to be a whole number"},
		{`"count": 8`, `"count": 8.5`, here + "traffic.count: is no number"},
		{`"count": 8`, `"count": 99999999999999999999`, here + "traffic.count: is no number"},
		{`"count": 8`, `"count": -1`, here + "traffic.count: is -1, and 1 to 1000 are possible"},
		{`"count": 8`, `"count": 1000, "parts": 3`, here + "traffic.parts: are of memory"},
		{`65536`, `4194304`, ""},
		{`65536, "count": 8`, `4194304, "count": 900`, here + "traffic.count: sends make 3774873600 bytes, and 67108864 is the most"},
		{`"tcp"`, `"sctp"`, here + `traffic.protocol: is "sctp"; there are tcp, udp, unix, file`},
		{`"sendfile", "protocol"`, `"sendmail", "protocol"`, here + `traffic.api: is "sendmail"; there are io_uring_send,`},
		{`"count": 8`, `"count": 8, "source": "/etc/shadow"`, here + `traffic.source: is "/etc/shadow", which there is not`},
		{`"count": 8`, `"count": 8, "source": "connection"`, here + `traffic.source: is a connection, which splice passes on by tcp`},
		{`"count": 8`, `"count": 8, "raw": "yes"`, here + "traffic.raw: is neither true nor false"},
		{`"count": 8`, `"count": 8, "socket": {"timestamp": true}`, here + "traffic.socket.timestamp: is unknown"},
		{`"mine/sendfile"`, `"../../etc"`, `f: scenario 1 ("../../etc") id: is to be like no-sg/sendfile`},
		{`"mine/sendfile"`, `5`, "f: scenario 1 id: is no text"},
		{`"id": "mine/sendfile", `, ``, `f: scenario 1 ("") id: is missing`},
		{`{"step": "bridge"}, `, ``, here + "set_up[0].step: is to be a place: bridge, files, "},
		{`{"step": "bridge"}`, `{"step": "bridge", "device": "v0"}`, here + "set_up[0].device: is unknown; the fields here are: none"},
		{`{"step": "bridge"}`, `{"device": "v0"}`, here + "set_up[0].step: is missing; there are bridge,"},
		{`{"step": "bridge"}`, `"bridge"`, here + "set_up[0]: is no object"},
		{`"step": "off"`, `"step": "shell"`, here + `set_up[1].step: is "shell"; there are `},
		{`"step": "off"`, `"step": "xdp"`, here + `set_up[1].feature: is unknown`},
		{`"device": "v0", `, ``, here + `set_up[1].device: is missing`},
		{`"device": "v0"`, `"device": "eth0"`, here + `set_up[1].device: is "eth0", and there are lo, v0, br0 at the sender`},
		{`"device": "v0"`, `"device": "v0", "at": "router"`, here + `set_up[1].at: is "router", which this place has not`},
		{`"tx-scatter-gather"`, `"TX\u0000"`, here + `set_up[1].feature: is "TX\x00", which is no name of a feature`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "veth"}`, here + `set_up[1].step: is a second place`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "sysctl", "name": "kernel.core_pattern", "value": "x"}`, here + `set_up[1].name: is "kernel.core_pattern", and those of net.core,`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "sysctl", "name": "net.ipv4.../../kernel/core_pattern", "value": "x"}`, here + `set_up[1].name: is `},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "sysctl", "name": "net.ipv4.tcp_congestion_control", "value": "x"}`, here + `set_up[1].name: is "net.ipv4.tcp_congestion_control", which loads modules`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "sysctl", "name": "net.ipv4.ip_forward", "value": "1\n"}`, here + `set_up[1].value: is "1\n"`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "mtu", "device": "v0", "mtu": 20}`, here + `set_up[1].mtu: is 20, and 68 to 65535 are possible`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "huge-pages", "pages": 100000}`, here + `set_up[1].pages: is 100000, and 1 to 64 are possible`},
		{`{"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "netem", "device": "v0", "delay_ns": -1}`, here + `set_up[1].delay_ns: is `},
		{`"copied": 1, `, ``, here + "truths[0].copied: is missing"},
		{`"copied": 1`, `"copied": 1.5`, here + "truths[0].copied: is 1.5, and a share from 0 to 1 is possible"},
		{`"copied": 1`, `"copied": 0.5, "copied_at_most": 0.5`, here + "truths[0].copied_at_most: is 0.5, and a share above copied is possible, to 1"},
		{`"copied": 1`, `"copied": "1"`, here + `truths[0].copied: is no number of its range: "1" is to be a number`},
		{`"no-scatter-gather"]`, `"the-weather"]`, here + `truths[0].causes[0]: is "the-weather", which is no cause`},
		{`"no-scatter-gather"]`, `"memlock-limit"]`, here + `truths[0].causes[0]: is "memlock-limit", which is no cause`},
		{`"causes": [`, `"refused": "mood", "causes": [`, here + `truths[0].refused: is "mood", which is no id`},
		{`"since": "6.1"`, `"since": "6"`, here + `truths[0].since: is "6", and a version is like 6.13`},
		{`"since": "6.1"`, `"since": "6.1", "before": "5.10"`, here + `truths[0]: holds on no kernel`},
		{`"truths": [`, `"truths": [{"since": "5.4", "before": "6.2", "copied": 0, "causes": [], "why": "x"}, `, here + `truths[1]: overlaps with truths[0]`},
		{`"truths": [`, `"truths": [{"before": "6.1", "copied": 0, "causes": [], "why": "x"}, `, ""},
		{`"truths": [`, `"blind_tiers": ["kprobe"], "truths": [`, here + `blind_tiers: are those that unobserved is about, which is missing`},
		{`"why": "skb_segment copies"`, `"why": " "`, here + `truths[0].why: is empty`},
		{`"why": "skb_segment copies"`, `"why": "` + strings.Repeat("x", 2000) + `"`, here + `truths[0].why: has 2000 bytes, and 1000 is the most`},
		{`"causes": [`, `"causes": [` + strings.Repeat(`"ulp", `, 100), here + `truths[0].causes: has 101 entries, and 32 is the most`},
	} {
		src := strings.Replace(good, c.old, c.new, 1)
		_, err := Read("f", []byte(src))
		switch e, ok := errors.AsType[*FileError](err); {
		case c.want == "" && err == nil:
		case c.want == "" || !ok || !strings.HasPrefix(err.Error(), c.want):
			t.Errorf("%s for %s: %v, want %s", c.new, c.old, err, c.want)
		case len(e.Problems) > mostProblems+1:
			t.Errorf("%s: %d problems", c.new, len(e.Problems))
		}
	}
	twice := strings.Replace(good, `"scenarios": [`, `"scenarios": [`+good[strings.Index(good, "[{")+1:len(good)-2]+", ", 1)
	if _, err := Read("f", []byte(twice)); err == nil || err.Error() != `f: scenario 2 ("mine/sendfile") id: is there twice` {
		t.Error(err)
	}
	if _, err := Read("f", make([]byte, MaxFile+1)); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Error(err)
	}
	many := `{"schema": "zcprobe/scenarios/v1", "scenarios": [` + strings.Repeat("{}, ", 1000) + `{}]}`
	if _, err := Read("f", []byte(many)); err == nil || err.Error() != "f: scenarios: are more than 1000" {
		t.Error(err)
	}
	many = strings.Replace(many, "{}, ", "", 500)
	if _, err := Read("f", []byte(many)); err == nil || !strings.HasSuffix(err.Error(), " more problems") {
		t.Error(err)
	}
}

// TestAdd: scenarios of one set-up share it, and no id is there twice.
func TestAdd(t *testing.T) {
	more, err := Read("f", []byte(strings.Replace(good, `{"step": "bridge"}, {"step": "off", "device": "v0", "feature": "tx-scatter-gather"}`, `{"step": "veth"}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	all, err := Add(Catalogue(), more)
	if err != nil || len(all) != len(Catalogue())+1 || len(groups(all)) != len(groups(Catalogue())) {
		t.Errorf("%d scenarios in %d set-ups, %v", len(all), len(groups(all)), err)
	}
	if _, err := Add(all, more); err == nil || err.Error() != "there is a scenario mine/sendfile already" {
		t.Error(err)
	}
}

// FuzzRead: what is read can be written, and is read again as it is. No file asks for
// what is not within bounds.
func FuzzRead(f *testing.F) {
	f.Add([]byte(good))
	l := listFor(Catalogue(), "6.18")
	for i := range l.Scenarios {
		src, err := json.Marshal(Listing{Schema: FileSchema, Scenarios: l.Scenarios[i : i+1]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		all, err := Read("f", src)
		if err != nil {
			if e, ok := errors.AsType[*FileError](err); !ok || len(e.Problems) == 0 || len(e.Problems) > mostProblems+1 {
				t.Errorf("%q: %#v", src, err)
			}
			return
		}
		for _, s := range all {
			if s.Traffic.Bytes() == 0 || s.Traffic.Bytes() > mostSent || len(s.SetUp) > mostItems || s.Traffic.String() == "" {
				t.Errorf("%+v", s)
			}
			for _, step := range s.SetUp[1:] {
				if c, ok := step.(Sysctl); ok && (!strings.HasPrefix(c.Name, "net.") || strings.ContainsAny(c.Name, "/\x00")) {
					t.Errorf("%+v", c)
				}
			}
		}
		again, err := Read("f", printed(t, all, "6.18"))
		if err != nil || len(again) != len(all) || len(all) > 0 && !reflect.DeepEqual(again, all) {
			t.Errorf("%v\n%+v\n%+v", err, all, again)
		}
	})
}
