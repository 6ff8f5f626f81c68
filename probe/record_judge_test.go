package probe

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Facts of real hosts with a few values changed for others that reading lets
// through: judgement must give a report of them, whatever they are.
func FuzzJudge(f *testing.F) {
	dirs, err := filepath.Glob("../testdata/hosts/*")
	if err != nil || len(dirs) == 0 {
		f.Fatalf("no recorded hosts: %v", err)
	}
	for i := range dirs {
		for seed := range uint64(20) {
			f.Add(uint8(i), seed, uint8(seed))
		}
	}
	f.Fuzz(func(t *testing.T, host uint8, seed uint64, changes uint8) {
		facts, err := ReadRecord(dirs[int(host)%len(dirs)])
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		for range int(changes)%24 + 1 {
			change(r, pick(r, places(reflect.ValueOf(facts).Elem())...))
		}
		if validate(facts) != nil {
			return
		}
		o := Options{Dev: pick(r, "", "eth0", "lo")}
		if len(facts.Paths) > 0 {
			o.To = facts.Paths[0].Asked
		}
		if _, err := json.Marshal(Judge(facts, o)); err != nil {
			t.Error(err)
		}
	})
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// places returns every value below v that can be changed by itself.
func places(v reflect.Value) []reflect.Value {
	var out []reflect.Value
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			out = append(out, places(v.Field(i))...)
		}
		return out
	case reflect.Pointer:
		if !v.IsNil() {
			out = places(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			out = append(out, places(v.Index(i))...)
		}
	}
	return append(out, v)
}

// change gives v another value that facts can have.
func change(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		change(r, v.Field(r.IntN(v.NumField())))
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			change(r, v.Elem())
		} else {
			v.SetZero()
		}
	case reflect.Slice:
		changeList(r, v)
	case reflect.Map:
		changeMap(r, v)
	case reflect.String:
		v.SetString(pick(r, "", "lo", "eth0", "veth", "vxlan", "bond", "bridge", "macvlan", "wireguard", "?", "ns1", "ns0",
			"10.0.0.1", "fe80::1", "native", "local", "EPERM", "ENOBUFS", "18446744073709551616", "-1", "\x1b[31m"))
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(pick[int64](r, 0, 1, 2, 3, -1, 65536, math.MaxInt32))
	case reflect.Uint8:
		v.SetUint(pick[uint64](r, 0, 1, math.MaxUint8))
	case reflect.Uint16:
		v.SetUint(pick[uint64](r, 0, 1, 3, math.MaxUint16))
	case reflect.Uint32:
		v.SetUint(pick[uint64](r, 0, 1, 65534, math.MaxUint32))
	case reflect.Uint64:
		v.SetUint(pick[uint64](r, 0, 1, 1<<40, math.MaxUint64))
	}
}

func changeList(r *rand.Rand, v reflect.Value) {
	n := v.Len()
	switch {
	case n > 0 && r.IntN(2) == 0: // leave one out
		i := r.IntN(n)
		v.Set(reflect.AppendSlice(v.Slice3(0, i, i), v.Slice(i+1, n)))
	case n > 0 && r.IntN(2) == 0: // one twice
		v.Set(reflect.Append(v, v.Index(r.IntN(n))))
	default:
		fresh := reflect.New(v.Type().Elem()).Elem()
		for range 6 {
			change(r, fresh)
		}
		v.Set(reflect.Append(v, fresh))
	}
}

func changeMap(r *rand.Rand, v reflect.Value) {
	if v.IsNil() || r.IntN(10) == 0 {
		v.SetZero()
		return
	}
	keys := v.MapKeys()
	if len(keys) == 0 {
		return
	}
	// Map order is random: sort, so that the seed alone decides.
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	key := pick(r, keys...)
	value := reflect.New(v.Type().Elem()).Elem()
	value.Set(v.MapIndex(key))
	change(r, value)
	v.SetMapIndex(key, value)
	if r.IntN(4) == 0 {
		v.SetMapIndex(key, reflect.Value{})
	}
}
