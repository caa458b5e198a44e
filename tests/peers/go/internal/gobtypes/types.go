// Package gobtypes has a Go type for each feature of gob, and sample values of them.
package gobtypes

import (
	"encoding/gob"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"time"
)

// Point is registered for interface values by its whole import path.
type Point struct{ X, Y int }

// Circle is registered as a pointer, thus as *gobtypes.Circle.
type Circle struct {
	Centre Point
	Radius float64
}

// Celsius is a named basic type, registered under a name of its own.
type Celsius float64

// CelsiusName is the name of Celsius in interface values.
const CelsiusName = "example.com/units.Celsius"

// Sealed is a gob.GobEncoder: its bytes are its content, reversed.
type Sealed struct{ content []byte }

// NewSealed makes a Sealed, whose fields are private.
func NewSealed(content string) Sealed { return Sealed{[]byte(content)} }

// GobEncode implements gob.GobEncoder.
func (s Sealed) GobEncode() ([]byte, error) { return reversed(s.content), nil }

// GobDecode implements gob.GobDecoder.
func (s *Sealed) GobDecode(data []byte) error {
	s.content = reversed(data)
	return nil
}

func reversed(data []byte) []byte {
	result := make([]byte, len(data))
	for i, b := range data {
		result[len(data)-1-i] = b
	}
	return result
}

// Scalars has a field of each basic type.
type Scalars struct {
	Bool       bool
	Int        int
	Int8       int8
	Int16      int16
	Int32      int32
	Int64      int64
	Uint       uint
	Uint8      uint8
	Uint16     uint16
	Uint32     uint32
	Uint64     uint64
	Float32    float32
	Float64    float64
	Complex64  complex64
	Complex128 complex128
	String     string
	Bytes      []byte
}

// Tree is recursive through a slice, Chain through a pointer.
type Tree struct {
	Name     string
	Children []*Tree
}

// Chain is a linked list.
type Chain struct {
	Value int
	Next  *Chain
}

// Labelled embeds a struct, which gob takes for a field named Point.
type Labelled struct {
	Point
	Label string
}

// Everything has a field of each kind that is no basic type.
type Everything struct {
	Scalars  Scalars
	Array    [3]int32
	Grid     [2][2]float32
	Strings  []string
	Points   []Point
	Pointers []*Point
	Slices   [][]int
	ByName   map[string]int
	ByNumber map[int32]string
	ByPoint  map[Point]string
	Lists    map[string][]Point
	Pointer  *Point
	Number   *int
	Deep     **string
	Tree     Tree
	Chain    *Chain
	Labelled Labelled
	Any      any
	Anys     []any
	Mixed    map[string]any
	When     time.Time
	Big      *big.Int
	Ratio    *big.Float
	URL      *url.URL
	Address  netip.Addr
	Sealed   Sealed
	Celsius  Celsius
	Duration time.Duration
	hidden   int
}

// Item is a line of an Order.
type Item struct {
	Name  string
	Price float64
	Count int
	Tags  []string
}

// Order is the struct of 11 fields that benchmarks send there and back.
type Order struct {
	ID       uint64
	Number   int
	Customer string
	Paid     bool
	Total    float64
	Created  int64
	Key      []byte
	Tags     []string
	Grid     [3]int32
	Labels   map[string]string
	Items    []Item
}

// Nothing is a struct without fields.
type Nothing struct{}

// Named are the types that descriptions can name; see package gobjson.
var Named = map[string]reflect.Type{
	"Point":      reflect.TypeFor[Point](),
	"Circle":     reflect.TypeFor[Circle](),
	"Celsius":    reflect.TypeFor[Celsius](),
	"Sealed":     reflect.TypeFor[Sealed](),
	"Scalars":    reflect.TypeFor[Scalars](),
	"Tree":       reflect.TypeFor[Tree](),
	"Chain":      reflect.TypeFor[Chain](),
	"Labelled":   reflect.TypeFor[Labelled](),
	"Everything": reflect.TypeFor[Everything](),
	"Item":       reflect.TypeFor[Item](),
	"Order":      reflect.TypeFor[Order](),
	"Nothing":    reflect.TypeFor[Nothing](),
}

func init() {
	gob.Register(Point{})
	gob.Register(&Circle{})
	gob.Register(netip.Addr{})
	gob.Register(Sealed{})
	gob.Register(Tree{})
	gob.Register(time.Time{})
	gob.Register([]any{})
	gob.Register(map[string]any{})
	gob.Register([]Point{})
	gob.RegisterName(CelsiusName, Celsius(0))
}
