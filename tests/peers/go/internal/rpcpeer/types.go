package rpcpeer

import (
	"math/big"
	"net/netip"
	"net/url"
	"time"

	types "pygo-plugin.example/peers/internal/gobtypes"
)

// Types has a method for each kind of gobtypes.Samples, which returns its argument.
type Types struct{}

// Echo is an object with one method, as light as can be.
type Echo struct{}

// Echo returns its argument.
func (Echo) Echo(in []byte, out *[]byte) error { return echo(in, out) }

func echo[T any](argument T, reply *T) error {
	*reply = argument
	return nil
}

// Bool returns its argument.
func (Types) Bool(in bool, out *bool) error { return echo(in, out) }

// Int returns its argument.
func (Types) Int(in int, out *int) error { return echo(in, out) }

// Int8 returns its argument.
func (Types) Int8(in int8, out *int8) error { return echo(in, out) }

// Int16 returns its argument.
func (Types) Int16(in int16, out *int16) error { return echo(in, out) }

// Int32 returns its argument.
func (Types) Int32(in int32, out *int32) error { return echo(in, out) }

// Int64 returns its argument.
func (Types) Int64(in int64, out *int64) error { return echo(in, out) }

// Uint returns its argument.
func (Types) Uint(in uint, out *uint) error { return echo(in, out) }

// Uint8 returns its argument.
func (Types) Uint8(in uint8, out *uint8) error { return echo(in, out) }

// Uint16 returns its argument.
func (Types) Uint16(in uint16, out *uint16) error { return echo(in, out) }

// Uint32 returns its argument.
func (Types) Uint32(in uint32, out *uint32) error { return echo(in, out) }

// Uint64 returns its argument.
func (Types) Uint64(in uint64, out *uint64) error { return echo(in, out) }

// Float32 returns its argument.
func (Types) Float32(in float32, out *float32) error { return echo(in, out) }

// Float64 returns its argument.
func (Types) Float64(in float64, out *float64) error { return echo(in, out) }

// Complex64 returns its argument.
func (Types) Complex64(in complex64, out *complex64) error { return echo(in, out) }

// Complex128 returns its argument.
func (Types) Complex128(in complex128, out *complex128) error { return echo(in, out) }

// String returns its argument.
func (Types) String(in string, out *string) error { return echo(in, out) }

// Bytes returns its argument.
func (Types) Bytes(in []byte, out *[]byte) error { return echo(in, out) }

// Array returns its argument.
func (Types) Array(in [3]int32, out *[3]int32) error { return echo(in, out) }

// ByteArray returns its argument.
func (Types) ByteArray(in [4]byte, out *[4]byte) error { return echo(in, out) }

// Ints returns its argument.
func (Types) Ints(in []int, out *[]int) error { return echo(in, out) }

// Strings returns its argument.
func (Types) Strings(in []string, out *[]string) error { return echo(in, out) }

// Floats returns its argument.
func (Types) Floats(in []float64, out *[]float64) error { return echo(in, out) }

// Bools returns its argument.
func (Types) Bools(in []bool, out *[]bool) error { return echo(in, out) }

// Slices returns its argument.
func (Types) Slices(in [][]byte, out *[][]byte) error { return echo(in, out) }

// Points returns its argument.
func (Types) Points(in []types.Point, out *[]types.Point) error { return echo(in, out) }

// ByName returns its argument.
func (Types) ByName(in map[string]int, out *map[string]int) error { return echo(in, out) }

// ByNumber returns its argument.
func (Types) ByNumber(in map[int]string, out *map[int]string) error { return echo(in, out) }

// ByPoint returns its argument.
func (Types) ByPoint(in map[types.Point]string, out *map[types.Point]string) error {
	return echo(in, out)
}

// Lists returns its argument.
func (Types) Lists(in map[string][]types.Point, out *map[string][]types.Point) error {
	return echo(in, out)
}

// Point returns its argument.
func (Types) Point(in types.Point, out *types.Point) error { return echo(in, out) }

// Nothing returns its argument.
func (Types) Nothing(in types.Nothing, out *types.Nothing) error { return echo(in, out) }

// Scalars returns its argument.
func (Types) Scalars(in types.Scalars, out *types.Scalars) error { return echo(in, out) }

// Tree returns its argument.
func (Types) Tree(in types.Tree, out *types.Tree) error { return echo(in, out) }

// Chain returns its argument.
func (Types) Chain(in types.Chain, out *types.Chain) error { return echo(in, out) }

// Labelled returns its argument.
func (Types) Labelled(in types.Labelled, out *types.Labelled) error { return echo(in, out) }

// Any returns its argument.
func (Types) Any(in any, out *any) error { return echo(in, out) }

// Time returns its argument.
func (Types) Time(in time.Time, out *time.Time) error { return echo(in, out) }

// BigInt takes and gives pointers, since a big.Int may not be copied.
func (Types) BigInt(in *big.Int, out *big.Int) error {
	out.Set(in)
	return nil
}

// BigFloat is the same for a big.Float.
func (Types) BigFloat(in *big.Float, out *big.Float) error {
	out.Set(in)
	return nil
}

// URL returns its argument.
func (Types) URL(in url.URL, out *url.URL) error { return echo(in, out) }

// Address returns its argument.
func (Types) Address(in netip.Addr, out *netip.Addr) error { return echo(in, out) }

// Sealed returns its argument.
func (Types) Sealed(in types.Sealed, out *types.Sealed) error { return echo(in, out) }

// Celsius returns its argument.
func (Types) Celsius(in types.Celsius, out *types.Celsius) error { return echo(in, out) }

// Duration returns its argument.
func (Types) Duration(in time.Duration, out *time.Duration) error { return echo(in, out) }

// Everything returns its argument.
func (Types) Everything(in types.Everything, out *types.Everything) error { return echo(in, out) }

// Order returns its argument.
func (Types) Order(in types.Order, out *types.Order) error { return echo(in, out) }
