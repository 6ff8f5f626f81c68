package sys

import (
	"reflect"
	"unsafe"
)

// HiddenInterface returns what the unexported field of a struct, or of what a pointer
// points to, holds. The field must be of an interface type; false means that there is
// no such field, or that it holds nothing.
func HiddenInterface(v any, field string) (any, bool) {
	s := reflect.ValueOf(v)
	if s.Kind() == reflect.Pointer {
		if s.IsNil() {
			return nil, false
		}
		s = s.Elem()
	}
	if s.Kind() != reflect.Struct {
		return nil, false
	}
	f, ok := s.Type().FieldByName(field)
	if !ok || f.Type.Kind() != reflect.Interface || len(f.Index) != 1 {
		return nil, false
	}
	if !s.CanAddr() { // a value in an interface: look at a copy
		c := reflect.New(s.Type()).Elem()
		c.Set(s)
		s = c
	}
	inner := reflect.NewAt(f.Type, unsafe.Pointer(s.Field(f.Index[0]).UnsafeAddr())).Elem()
	if inner.IsNil() {
		return nil, false
	}
	return inner.Interface(), true
}
