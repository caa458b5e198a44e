// Package gobjson describes Go types and values in JSON, so that programs in
// other languages can have any of them made, encoded and decoded.
//
// A type is one of:
//
//	"bool" "int" "int8" "int16" "int32" "int64" "uint" "uint8" "uint16" "uint32" "uint64"
//	"float32" "float64" "complex64" "complex128" "string" "bytes" "any"
//	"time" "duration" "bigint" "bigfloat" "url" "addr"
//	"Point", or another name of gobtypes.Named
//	{"slice": T}  {"array": T, "len": N}  {"map": K, "value": T}  {"pointer": T}
//	{"struct": [["Name", T], ...]}
//
// A value is:
//
//	bool                          true or false
//	int..., uint..., duration     a number
//	float...                      a string as Python's float.hex() gives: "0x1.8p+1", "inf", "nan"
//	complex...                    a list of two such strings
//	string                        a string; if it is no UTF-8, {"hex": "ff"}
//	bytes                         a string of hexadecimal digits
//	slice, array                  a list
//	map                           null for a nil map, else a list of lists of key and value
//	pointer                       null, or the value
//	struct                        an object; what is missing is zero
//	any                           null, or {"type": T, "value": V}
//	time                          RFC 3339 with nanoseconds; with a colon and seconds in the offset if need be
//	bigint, url, addr             a string
//	bigfloat, Sealed              a string of the hexadecimal digits of its encoding
//
// Types in interface values are registered by the name that gob.Register gives
// them, unless that has been done.
package gobjson

import (
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"sync"
	"time"

	"pygo-plugin.example/peers/internal/gobtypes"
)

var basic = map[string]reflect.Type{
	"bool":       reflect.TypeFor[bool](),
	"int":        reflect.TypeFor[int](),
	"int8":       reflect.TypeFor[int8](),
	"int16":      reflect.TypeFor[int16](),
	"int32":      reflect.TypeFor[int32](),
	"int64":      reflect.TypeFor[int64](),
	"uint":       reflect.TypeFor[uint](),
	"uint8":      reflect.TypeFor[uint8](),
	"uint16":     reflect.TypeFor[uint16](),
	"uint32":     reflect.TypeFor[uint32](),
	"uint64":     reflect.TypeFor[uint64](),
	"float32":    reflect.TypeFor[float32](),
	"float64":    reflect.TypeFor[float64](),
	"complex64":  reflect.TypeFor[complex64](),
	"complex128": reflect.TypeFor[complex128](),
	"string":     reflect.TypeFor[string](),
	"bytes":      bytesType,
	"any":        reflect.TypeFor[any](),
	"time":       reflect.TypeFor[time.Time](),
	"duration":   reflect.TypeFor[time.Duration](),
	"bigint":     reflect.TypeFor[big.Int](),
	"bigfloat":   reflect.TypeFor[big.Float](),
	"url":        reflect.TypeFor[url.URL](),
	"addr":       reflect.TypeFor[netip.Addr](),
}

var (
	bytesType = reflect.TypeFor[[]byte]()
	errorType = reflect.TypeFor[error]()
)

var names = func() map[reflect.Type]string {
	names := make(map[reflect.Type]string)
	for _, table := range []map[string]reflect.Type{basic, gobtypes.Named} {
		for name, t := range table {
			names[t] = name
		}
	}
	return names
}()

// description is a type that has no name.
type description struct {
	Slice   json.RawMessage      `json:"slice"`
	Array   json.RawMessage      `json:"array"`
	Len     int                  `json:"len"`
	Map     json.RawMessage      `json:"map"`
	Value   json.RawMessage      `json:"value"`
	Pointer json.RawMessage      `json:"pointer"`
	Struct  [][2]json.RawMessage `json:"struct"`
}

// Type returns the type of a description.
func Type(raw json.RawMessage) (t reflect.Type, err error) {
	// Package reflect panics where a type cannot be.
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("type %s: %v", raw, problem)
		}
	}()
	var name string
	if json.Unmarshal(raw, &name) == nil {
		if t, ok := basic[name]; ok {
			return t, nil
		}
		if t, ok := gobtypes.Named[name]; ok {
			return t, nil
		}
		return nil, fmt.Errorf("unknown type %q", name)
	}
	var d description
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("type %s: %w", raw, err)
	}
	switch {
	case d.Slice != nil:
		element, err := Type(d.Slice)
		if err != nil {
			return nil, err
		}
		return reflect.SliceOf(element), nil
	case d.Array != nil:
		element, err := Type(d.Array)
		if err != nil {
			return nil, err
		}
		return reflect.ArrayOf(d.Len, element), nil
	case d.Map != nil:
		key, err := Type(d.Map)
		if err != nil {
			return nil, err
		}
		value, err := Type(d.Value)
		if err != nil {
			return nil, err
		}
		return reflect.MapOf(key, value), nil
	case d.Pointer != nil:
		target, err := Type(d.Pointer)
		if err != nil {
			return nil, err
		}
		return reflect.PointerTo(target), nil
	case d.Struct != nil:
		return structType(d.Struct)
	default:
		return nil, fmt.Errorf("type %s is none", raw)
	}
}

func structType(description [][2]json.RawMessage) (reflect.Type, error) {
	fields := make([]reflect.StructField, len(description))
	for i, pair := range description {
		err := json.Unmarshal(pair[0], &fields[i].Name)
		if err == nil {
			fields[i].Type, err = Type(pair[1])
		}
		if err != nil {
			return nil, err
		}
	}
	return reflect.StructOf(fields), nil
}

// Describe is the inverse of Type.
func Describe(t reflect.Type) any {
	if name, ok := names[t]; ok {
		return name
	}
	switch t.Kind() {
	case reflect.Slice:
		return map[string]any{"slice": Describe(t.Elem())}
	case reflect.Array:
		return map[string]any{"array": Describe(t.Elem()), "len": t.Len()}
	case reflect.Map:
		return map[string]any{"map": Describe(t.Key()), "value": Describe(t.Elem())}
	case reflect.Pointer:
		return map[string]any{"pointer": Describe(t.Elem())}
	case reflect.Struct:
		if t.Name() != "" {
			break
		}
		fields := [][2]any{}
		for i := range t.NumField() {
			fields = append(fields, [2]any{t.Field(i).Name, Describe(t.Field(i).Type)})
		}
		return map[string]any{"struct": fields}
	}
	return t.String()
}

var (
	registering sync.Mutex
	registered  = make(map[reflect.Type]bool)
)

// register has gob know a type of interface values by Go's own name for it, unless
// it has a name already. A type that has none afterwards cannot be encoded, and gob says so.
func register(t reflect.Type) {
	registering.Lock()
	defer registering.Unlock()
	if !registered[t] {
		registered[t] = true
		_ = attempt(func() { gob.Register(reflect.Zero(t).Interface()) })
	}
}

// RegisterName has gob know a type of interface values by this name, for ever: a
// name belongs to one type and a type to one name.
func RegisterName(name string, t reflect.Type) error {
	registering.Lock()
	defer registering.Unlock()
	registered[t] = true
	return attempt(func() { gob.RegisterName(name, reflect.Zero(t).Interface()) })
}

// attempt makes an error of a panic.
func attempt(f func()) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("%v", problem)
		}
	}()
	f()
	return nil
}
