package gobtypes

import (
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"time"
)

// Sample has values of one type. Kind names the method of package rpcpeer that
// echoes them.
type Sample struct {
	Kind   string
	Values []any // each is a pointer to the value
}

func sample[T any](kind string, values ...T) Sample {
	s := Sample{Kind: kind}
	for i := range values {
		s.Values = append(s.Values, &values[i])
	}
	return s
}

// Samples has values of every type, those at the limits of each among them. Maps
// have one entry at most, so that every value is always the same bytes.
func Samples() []Sample {
	word, number := "word", 42
	pointer := &word
	paris := time.FixedZone("", 3600)
	odd := time.FixedZone("", 3600+30)
	when := time.Date(2024, time.February, 29, 12, 34, 56, 123456789, time.UTC)
	huge := new(big.Int).Lsh(big.NewInt(-3), 200)
	address := &url.URL{Scheme: "https", User: url.UserPassword("u", "p"), Host: "h:1", Path: "/a b", RawQuery: "q=1"}
	tree := Tree{"root", []*Tree{{Name: "leaf"}, {"branch", []*Tree{{Name: "twig"}}}}}
	scalars := Scalars{
		Bool: true, Int: -1, Int8: math.MinInt8, Int16: math.MinInt16, Int32: math.MinInt32, Int64: math.MinInt64,
		Uint: 1, Uint8: math.MaxUint8, Uint16: math.MaxUint16, Uint32: math.MaxUint32, Uint64: math.MaxUint64,
		Float32: 1.5, Float64: -math.Pi, Complex64: 1 - 2i, Complex128: complex(math.Inf(1), -0.5),
		String: "text \u00e4\U0001f40d", Bytes: []byte{0, 255, 10},
	}
	everything := Everything{
		Scalars: scalars, Array: [3]int32{1, 0, -1}, Grid: [2][2]float32{{1, 2}, {3, 4}},
		Strings: []string{"a", "", "c"}, Points: []Point{{1, 2}, {}}, Pointers: []*Point{{3, 4}, {}},
		Slices: [][]int{{1}, nil, {2, 3}}, ByName: map[string]int{"one": 1}, ByNumber: map[int32]string{-1: "minus"},
		ByPoint: map[Point]string{{5, 6}: "here"}, Lists: map[string][]Point{"list": {{7, 8}}},
		Pointer: &Point{9, 10}, Number: &number, Deep: &pointer, Tree: tree, Chain: &Chain{1, &Chain{2, nil}},
		Labelled: Labelled{Point{11, 12}, "label"}, Any: Point{13, 14},
		Anys:  []any{1, "two", 3.0, nil, []byte("four"), &Circle{Point{5, 5}, 5}},
		Mixed: map[string]any{"nested": map[string]any{"key": []any{true}}},
		When:  when, Big: huge, Ratio: big.NewFloat(0.1), URL: address,
		Address: netip.MustParseAddr("192.0.2.1"), Sealed: NewSealed("secret"), Celsius: 36.6, Duration: 90 * time.Second,
	}
	return []Sample{
		sample("Bool", true, false),
		sample("Int", 0, 1, -1, 63, 64, -64, -65, math.MaxInt64, math.MinInt64),
		sample[int8]("Int8", math.MinInt8, math.MaxInt8),
		sample[int16]("Int16", math.MinInt16, math.MaxInt16),
		sample[int32]("Int32", math.MinInt32, math.MaxInt32),
		sample[int64]("Int64", math.MinInt64, math.MaxInt64),
		sample[uint]("Uint", 0, 127, 128, 255, 256, math.MaxUint64),
		sample[uint8]("Uint8", 0, math.MaxUint8),
		sample[uint16]("Uint16", 0, math.MaxUint16),
		sample[uint32]("Uint32", 0, math.MaxUint32),
		sample[uint64]("Uint64", 0, math.MaxUint64),
		sample[float32]("Float32", 0, 1.5, math.MaxFloat32, float32(math.Inf(-1))),
		sample("Float64", 0, 17, -0.1, math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.NaN()),
		sample[complex64]("Complex64", 0, 1-2i),
		sample("Complex128", 0, complex(-0.1, math.Inf(1))),
		sample("String", "", "text", "\u00e4\U0001f40d\x00", "\xff\xfe"),
		sample("Bytes", []byte{}, []byte("bytes"), []byte{0, 255}),
		sample("Array", [3]int32{}, [3]int32{1, -2, 3}),
		sample("ByteArray", [4]byte{1, 2, 3, 255}),
		sample("Ints", []int{}, []int{1, -2, math.MaxInt64}),
		sample("Strings", []string{"a", "", "c"}),
		sample("Floats", []float64{0, 0.5, math.Inf(-1)}),
		sample("Bools", []bool{true, false}),
		sample("Slices", [][]byte{[]byte("a"), {}, []byte("c")}),
		sample("Points", []Point{{1, 2}, {}, {0, 3}}),
		sample("ByName", map[string]int{}, map[string]int{"one": 1}, map[string]int{"": 0}),
		sample("ByNumber", map[int]string{-1: "minus one"}),
		sample("ByPoint", map[Point]string{{1, 0}: "one"}),
		sample("Lists", map[string][]Point{"list": {{1, 2}, {}}}),
		sample("Point", Point{}, Point{1, 0}, Point{0, -2}),
		sample("Nothing", Nothing{}),
		sample("Scalars", Scalars{}, scalars),
		sample("Tree", Tree{}, tree),
		sample("Chain", Chain{1, &Chain{2, &Chain{}}}),
		sample("Labelled", Labelled{Point{1, 2}, "label"}),
		sample[any]("Any", nil, true, 1, int8(-2), uint64(3), float32(4), 5.5, 6i, "seven", []byte("eight"),
			[]int{9}, []string{"ten"}, []any{11, nil}, map[string]any{"twelve": []any{12}}, Point{13, 14},
			&Circle{Point{1, 2}, 3}, Celsius(36.6), netip.MustParseAddr("::1"), NewSealed("x"), tree, when, []Point{{1, 2}}),
		sample("Time", time.Time{}, when, when.In(paris), when.In(odd)),
		sample("BigInt", big.Int{}, *big.NewInt(-1), *huge),
		sample("BigFloat", *big.NewFloat(0), *big.NewFloat(-0.1)),
		sample("URL", url.URL{}, *address),
		sample("Address", netip.Addr{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1%eth0")),
		sample("Sealed", NewSealed(""), NewSealed("secret")),
		sample[Celsius]("Celsius", 0, -40),
		sample[time.Duration]("Duration", 90*time.Second),
		sample("Everything", Everything{}, everything),
		sample("Order", Order{}, NewOrder(100)),
	}
}

// NewOrder makes an Order with so many items.
func NewOrder(items int) Order {
	order := Order{
		ID:       1 << 40,
		Number:   -12345,
		Customer: "Ada Lovelace",
		Paid:     true,
		Total:    1234.56,
		Created:  1_700_000_000,
		Key:      []byte("0123456789abcdef"),
		Tags:     []string{"new", "urgent", "gift"},
		Grid:     [3]int32{1, -2, 3},
		Labels:   map[string]string{"colour": "red"},
	}
	for i := range items {
		order.Items = append(order.Items, Item{fmt.Sprintf("item %d", i), float64(i) + 0.1, i, []string{"red", "large"}})
	}
	return order
}
