package transmit

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A shell says which field of a type holds the reader or writer that does all the
// work.
type shell struct {
	field  int // -1: the type has methods of its own
	hidden string
	ptr    bool
}

// shells knows the types that were seen, of which a program has few. It is keyed by
// shellKey.
var shells sync.Map

type shellKey struct {
	t      reflect.Type
	method string
}

// peel returns what is inside a reader or writer that adds nothing to it: method is
// "Read" or "Write". Those are types of the standard library that are known, and
// structs without a name, which have no methods of their own. Named types of others
// may look at the bytes and are never opened.
func peel(v any, method string) (any, bool) {
	t := reflect.TypeOf(v)
	if t == nil {
		return nil, false
	}
	s, ok := shells.Load(shellKey{t, method})
	if !ok {
		s, _ = shells.LoadOrStore(shellKey{t, method}, findShell(t, method))
	}
	sh := s.(shell)
	switch {
	case sh.field < 0:
		return nil, false
	case sh.hidden != "":
		return sys.HiddenInterface(v, sh.hidden)
	}
	s2 := reflect.ValueOf(v)
	if sh.ptr {
		if s2.IsNil() {
			return nil, false
		}
		s2 = s2.Elem()
	}
	f := s2.Field(sh.field)
	if k := f.Kind(); (k == reflect.Interface || k == reflect.Pointer) && f.IsNil() {
		return nil, false
	}
	return f.Interface(), true
}

// knownShells are types of the standard library, by what holds the rest.
var knownShells = map[string]string{
	"io.nopCloser":               "Reader",
	"io.nopCloserWriterTo":       "Reader",
	"os.fileWithoutWriteTo":      "File",
	"os.fileWithoutReadFrom":     "File",
	"net.tcpConnWithoutWriteTo":  "TCPConn",
	"net.tcpConnWithoutReadFrom": "TCPConn",
}

func findShell(t reflect.Type, method string) shell {
	none := shell{field: -1}
	s, ptr := t, false
	if t.Kind() == reflect.Pointer && t.Name() == "" {
		s, ptr = t.Elem(), true
	}
	if s.Kind() != reflect.Struct {
		return none
	}
	if s.Name() == "" {
		return anonymousShell(s, method, ptr)
	}
	name := s.PkgPath() + "." + s.Name()
	if name == "net/http.ioFile" && !ptr && method == "Read" && s.NumField() == 1 && s.Field(0).Name == "file" {
		return shell{hidden: "file"}
	}
	field, ok := knownShells[name]
	if !ok || ptr {
		return none
	}
	f, ok := s.FieldByName(field)
	if !ok || !f.Anonymous || !f.IsExported() || len(f.Index) != 1 {
		return none
	}
	return shell{field: f.Index[0]}
}

// anonymousShell finds the embedded field that a struct without a name has the method
// from.
func anonymousShell(s reflect.Type, method string, ptr bool) shell {
	found := shell{field: -1}
	for i := range s.NumField() {
		f := s.Field(i)
		if !f.Anonymous {
			continue
		}
		if !hasMethod(f.Type, method) {
			// That of a pointer to it may be promoted all the same.
			if hasMethod(reflect.PointerTo(f.Type), method) {
				return shell{field: -1}
			}
			continue
		}
		if found.field >= 0 || !f.IsExported() {
			return shell{field: -1}
		}
		found = shell{field: i, ptr: ptr}
	}
	return found
}

// hasMethod reports whether a type has Read, or Write. It names them to the linker:
// where that does not know which methods are looked up, it leaves every method of
// every type in the program.
func hasMethod(t reflect.Type, method string) (ok bool) {
	if method == "Read" {
		_, ok = t.MethodByName("Read")
	} else {
		_, ok = t.MethodByName("Write")
	}
	return ok
}

// below returns the reader that a bufio.Reader with an empty buffer would read from
// next.
func below(b *bufio.Reader) (io.Reader, bool) {
	// An error that is kept comes first.
	if e := reflect.ValueOf(b).Elem().FieldByName("err"); !e.IsValid() || e.Kind() != reflect.Interface || !e.IsNil() {
		return nil, false
	}
	v, ok := sys.HiddenInterface(b, "rd")
	if !ok {
		return nil, false
	}
	r, ok := v.(io.Reader)
	return r, ok
}

// multiType is that of what io.MultiReader returns.
var multiType = reflect.TypeOf(io.MultiReader())

var writerTo = reflect.TypeFor[io.WriterTo]()

// exactWriterTo are the types of which WriteTo loses nothing to a writer that takes
// less than it is given.
var exactWriterTo = map[reflect.Type]bool{
	reflect.TypeFor[*os.File]():        true,
	reflect.TypeFor[*net.TCPConn]():    true,
	reflect.TypeFor[*Conn]():           true,
	reflect.TypeFor[*BodyReader]():     true,
	reflect.TypeFor[*bytes.Reader]():   true,
	reflect.TypeFor[*bytes.Buffer]():   true,
	reflect.TypeFor[*strings.Reader](): true,
}

// mayCut reports whether the readers of an io.MultiReader may be made to write
// themselves to a writer that stops somewhere.
func mayCut(multi reflect.Value, depth int) bool {
	parts := multi.Elem().FieldByName("readers")
	if !parts.IsValid() || parts.Kind() != reflect.Slice || depth == 0 {
		return false
	}
	for i := range parts.Len() {
		p := parts.Index(i)
		if p.Kind() != reflect.Interface {
			return false
		}
		if p = p.Elem(); p.IsValid() && !cutsExactly(p, depth) {
			return false
		}
	}
	return true
}

func cutsExactly(v reflect.Value, depth int) bool {
	switch t := v.Type(); {
	case !t.Implements(writerTo), exactWriterTo[t]:
		return true
	case t == multiType:
		return mayCut(v, depth-1)
	case t == reflect.TypeFor[*bufio.Reader]():
		if v.IsNil() {
			return false
		}
		rd := v.Elem().FieldByName("rd")
		return rd.IsValid() && rd.Kind() == reflect.Interface && !rd.IsNil() && depth > 0 && cutsExactly(rd.Elem(), depth-1)
	}
	return false
}

// mostNested bounds how deep readers are looked into.
const mostNested = 32
