package archive

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/event"
)

// kind is a type of column. A column of every kind can be null, which stands for the JSON null.
type kind struct {
	name   string // in the metadata of files: it must never change its meaning
	node   parquet.Node
	parse  func(raw []byte) (parquet.Value, error) // raw is a JSON value other than null; the value may alias it
	render func(dst []byte, v parquet.Value) []byte
}

// kinds are all types of columns, by name.
var kinds = func() map[string]*kind {
	all := make(map[string]*kind)
	for _, k := range []*kind{integers, floats, digits, texts, scalars, booleans} {
		all[k.name] = k
	}
	return all
}()

// integers holds whole numbers within int64.
var integers = &kind{
	name: "int",
	node: parquet.Leaf(parquet.Int64Type),
	parse: func(raw []byte) (parquet.Value, error) {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		return parquet.Int64Value(n), err
	},
	render: func(dst []byte, v parquet.Value) []byte { return strconv.AppendInt(dst, v.Int64(), 10) },
}

// floats holds numbers that were float64 when they were published.
var floats = &kind{
	name: "float",
	node: parquet.Leaf(parquet.DoubleType),
	parse: func(raw []byte) (parquet.Value, error) {
		f, err := strconv.ParseFloat(string(raw), 64)
		return parquet.DoubleValue(f), err
	},
	render: func(dst []byte, v parquet.Value) []byte {
		text, err := json.Marshal(v.Double())
		if err != nil { // NaN and infinities, which no JSON was parsed into
			return append(dst, "null"...)
		}
		return append(dst, text...)
	},
}

// digits holds numbers as JSON writes them, where neither int64 nor float64 has room for all that may come.
var digits = &kind{
	name: "number as text",
	node: parquet.String(),
	parse: func(raw []byte) (parquet.Value, error) {
		if c := raw[0]; c != '-' && (c < '0' || c > '9') {
			return parquet.Value{}, fmt.Errorf("%.20q is not a number", raw)
		}
		return parquet.ByteArrayValue(raw), nil
	},
	render: renderBytes,
}

// texts holds texts, without quotes and escapes.
var texts = &kind{
	name: "text",
	node: parquet.String(),
	parse: func(raw []byte) (parquet.Value, error) {
		text, err := textOf(raw)
		return parquet.ByteArrayValue(text), err
	},
	render: func(dst []byte, v parquet.Value) []byte { return event.AppendString(dst, v.ByteArray()) },
}

// scalars holds values of any type as JSON. Its columns, and others of JSON, are texts to Parquet: DuckDB refuses a whole
// file for one value of a JSON column that has half a surrogate pair, which is JSON.
var scalars = &kind{
	name:   "json",
	node:   parquet.String(),
	parse:  func(raw []byte) (parquet.Value, error) { return parquet.ByteArrayValue(raw), nil },
	render: renderBytes,
}

var booleans = &kind{
	name: "bool",
	node: parquet.Leaf(parquet.BooleanType),
	parse: func(raw []byte) (parquet.Value, error) {
		b, err := strconv.ParseBool(string(raw))
		return parquet.BooleanValue(b), err
	},
	render: func(dst []byte, v parquet.Value) []byte { return strconv.AppendBool(dst, v.Boolean()) },
}

func renderBytes(dst []byte, v parquet.Value) []byte { return append(dst, v.ByteArray()...) }

// textOf returns the text of a JSON string. Half a surrogate pair, which UTF-8 cannot express, becomes U+FFFD.
func textOf(raw []byte) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, fmt.Errorf("%.20q is not a text", raw)
	}
	inner := raw[1 : len(raw)-1]
	for _, c := range inner {
		if c == '\\' {
			var text string
			err := json.Unmarshal(raw, &text)
			return []byte(text), err
		}
	}
	if !utf8.Valid(inner) {
		return nil, fmt.Errorf("%.20q is not UTF-8", raw)
	}
	return inner, nil
}

// published maps the functions that spec.Functions lists to the kind of what they publish. The type is one of the
// function's. Sums and extremes of the type float are published with all digits while they are whole numbers within int64,
// and first and last keep whole numbers of any size: neither fits a column of numbers.
var published = map[string]func(typ string) *kind{
	"count": func(string) *kind { return integers },
	"sum":   numbersOf,
	"avg":   func(string) *kind { return floats },
	"min":   numbersOf,
	"max":   numbersOf,
	"first": scalarsOf,
	"last":  scalarsOf,
}

func numbersOf(typ string) *kind {
	if typ == "int" {
		return integers
	}
	return digits
}

func scalarsOf(typ string) *kind {
	switch typ {
	case "int", "float":
		return digits
	case "string":
		return texts
	case "bool":
		return booleans
	}
	return scalars
}
