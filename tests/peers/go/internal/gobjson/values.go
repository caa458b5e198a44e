package gobjson

import (
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const timeFormat = "2006-01-02T15:04:05.999999999Z07:00:00"

// New makes a value of a type, and returns a pointer to it.
func New(t reflect.Type, raw json.RawMessage) (reflect.Value, error) {
	pointer := reflect.New(t)
	if raw == nil {
		return pointer, nil
	}
	return pointer, fill(pointer.Elem(), raw)
}

// fill sets a value that is zero.
func fill(v reflect.Value, raw json.RawMessage) error {
	if handled, err := fillText(v, raw); handled {
		return err
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		number, err := float(raw, v.Type().Bits())
		v.SetFloat(number)
		return err
	case reflect.Complex64, reflect.Complex128:
		return fillComplex(v, raw)
	case reflect.String:
		return fillString(v, raw)
	case reflect.Slice, reflect.Array:
		return fillList(v, raw)
	case reflect.Map:
		return fillMap(v, raw)
	case reflect.Pointer:
		if string(raw) == "null" {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), raw)
	case reflect.Struct:
		return fillStruct(v, raw)
	case reflect.Interface:
		return fillInterface(v, raw)
	default:
		return json.Unmarshal(raw, v.Addr().Interface())
	}
}

// fillText sets values of types whose JSON is a string though they are something else.
func fillText(v reflect.Value, raw json.RawMessage) (handled bool, err error) {
	var text string
	parse := func(f func() error) (bool, error) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return true, err
		}
		return true, f()
	}
	switch target := v.Addr().Interface().(type) {
	case *[]byte:
		return parse(func() error {
			*target, err = hex.DecodeString(text)
			return err
		})
	case *time.Time:
		return parse(func() error {
			*target, err = parseTime(text)
			return err
		})
	case *big.Int:
		return parse(func() error { return target.UnmarshalText([]byte(text)) })
	case *url.URL:
		return parse(func() error { return target.UnmarshalBinary([]byte(text)) })
	case *netip.Addr:
		return parse(func() error { return target.UnmarshalText([]byte(text)) })
	case gob.GobDecoder:
		return parse(func() error {
			data, err := hex.DecodeString(text)
			if err != nil {
				return err
			}
			return target.GobDecode(data)
		})
	default:
		return false, nil
	}
}

// parseTime takes offsets with and without seconds.
func parseTime(text string) (time.Time, error) {
	when, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		when, err = time.Parse(timeFormat, text)
	}
	if _, offset := when.Zone(); offset == 0 && strings.HasSuffix(text, "Z") {
		return when.UTC(), err
	} else { // Not the local zone, if its offset happens to be the same.
		return when.In(time.FixedZone("", offset)), err
	}
}

func float(raw json.RawMessage, bits int) (float64, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(text, bits)
}

func fillComplex(v reflect.Value, raw json.RawMessage) error {
	var parts [2]json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	var numbers [2]float64
	for i, part := range parts {
		var err error
		if numbers[i], err = float(part, v.Type().Bits()/2); err != nil {
			return err
		}
	}
	v.SetComplex(complex(numbers[0], numbers[1]))
	return nil
}

func fillString(v reflect.Value, raw json.RawMessage) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		v.SetString(text)
		return nil
	}
	var digits struct {
		Hex string `json:"hex"`
	}
	if err := json.Unmarshal(raw, &digits); err != nil {
		return err
	}
	data, err := hex.DecodeString(digits.Hex)
	v.SetString(string(data))
	return err
}

func fillList(v reflect.Value, raw json.RawMessage) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(elements), len(elements)))
	} else if len(elements) != v.Len() {
		return fmt.Errorf("%d elements for %s", len(elements), v.Type())
	}
	for i, element := range elements {
		if err := fill(v.Index(i), element); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

func fillMap(v reflect.Value, raw json.RawMessage) error {
	if string(raw) == "null" {
		return nil
	}
	var entries [][2]json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, entry := range entries {
		key, err := New(v.Type().Key(), entry[0])
		if err != nil {
			return err
		}
		value, err := New(v.Type().Elem(), entry[1])
		if err != nil {
			return fmt.Errorf("[%s]: %w", entry[0], err)
		}
		v.SetMapIndex(key.Elem(), value.Elem())
	}
	return nil
}

func fillStruct(v reflect.Value, raw json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		field := v.FieldByName(name)
		if !field.IsValid() {
			return fmt.Errorf("%s has no field %s", v.Type(), name)
		}
		if err := fill(field, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func fillInterface(v reflect.Value, raw json.RawMessage) error {
	if string(raw) == "null" {
		return nil
	}
	var typed struct {
		Type  json.RawMessage `json:"type"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(raw, &typed); err != nil {
		return err
	}
	t, err := Type(typed.Type)
	if err != nil {
		return err
	}
	register(t)
	value, err := New(t, typed.Value)
	if err == nil {
		v.Set(value.Elem())
	}
	return err
}

// Show is the inverse of New: what encoding/json makes of the result describes the
// value. A nil slice is shown as an empty one, which gob does not tell apart.
func Show(v reflect.Value) any {
	if text, ok := showText(v); ok {
		return text
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return hexFloat(v.Float())
	case reflect.Complex64, reflect.Complex128:
		return []any{hexFloat(real(v.Complex())), hexFloat(imag(v.Complex()))}
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return map[string]any{"hex": hex.EncodeToString([]byte(v.String()))}
		}
		return v.String()
	case reflect.Slice, reflect.Array:
		elements := make([]any, v.Len())
		for i := range elements {
			elements[i] = Show(v.Index(i))
		}
		return elements
	case reflect.Map:
		if v.IsNil() {
			return nil
		}
		entries := [][2]any{}
		for _, key := range v.MapKeys() {
			entries = append(entries, [2]any{Show(key), Show(v.MapIndex(key))})
		}
		return entries
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return Show(v.Elem())
	case reflect.Struct:
		return showStruct(v)
	case reflect.Interface:
		return showInterface(v)
	default:
		return v.Interface()
	}
}

func showText(v reflect.Value) (string, bool) {
	if v.Type().Name() == "" && v.Type() != bytesType {
		return "", false
	}
	addressable := reflect.New(v.Type())
	addressable.Elem().Set(v)
	switch value := addressable.Interface().(type) {
	case *[]byte:
		return hex.EncodeToString(*value), true
	case *time.Time:
		if _, offset := value.Zone(); offset%60 == 0 {
			return value.Format(time.RFC3339Nano), true
		}
		return value.Format(timeFormat), true
	case *big.Int:
		return value.String(), true
	case *url.URL:
		return value.String(), true
	case *netip.Addr:
		text, _ := value.MarshalText() // "" for none
		return string(text), true
	case gob.GobEncoder:
		data, _ := value.GobEncode()
		return hex.EncodeToString(data), true
	default:
		return "", false
	}
}

func showStruct(v reflect.Value) any {
	fields := make(map[string]any)
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() {
			fields[field.Name] = Show(v.Field(i))
		}
	}
	return fields
}

func showInterface(v reflect.Value) any {
	if v.IsNil() {
		return nil
	}
	if v.Type() == errorType {
		return v.Interface().(error).Error()
	}
	return map[string]any{"type": Describe(v.Elem().Type()), "value": Show(v.Elem())}
}

func hexFloat(number float64) string {
	return strings.TrimPrefix(strconv.FormatFloat(number, 'x', -1, 64), "+")
}
