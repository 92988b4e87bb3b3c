package event

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/expr-lang/expr/vm"

	"millrace/pipeline/where"
)

// filter runs a spec's where expression. It belongs to one Decoder.
type filter struct {
	where  *where.Expression
	leaves []int // by field of the expression
	vm     vm.VM
	env    map[string]any
}

var errNotBoolean = errors.New("where gives neither true nor false")

// keep runs the expression over the fields it mentions. A field the event lacks is nil.
func (f *filter) keep(tokens []token, data []byte) (bool, error) {
	for i, name := range f.where.Fields {
		f.env[name] = tokenValue(&tokens[f.leaves[i]], data)
	}
	result, err := f.vm.Run(f.where.Program, f.env)
	if err != nil {
		return false, fmt.Errorf("where: %w", where.RunError(err))
	}
	keep, ok := result.(bool)
	if !ok {
		return false, fmt.Errorf("%w, but a value of type %s", errNotBoolean, where.WordOf(result))
	}
	return keep, nil
}

// tokenValue makes a token a value of the expression language: int, float64, string, bool, nil, map or list.
func tokenValue(t *token, data []byte) any {
	switch t.kind {
	case smallInt:
		return int(t.num)
	case number:
		return numberValue(data[t.start:t.end])
	case plain:
		return view(data[t.start:t.end])
	case escaped:
		return string(unescape(nil, data[t.start:t.end]))
	case boolean:
		return t.num != 0
	case container:
		value, _ := anyValue(data, t.start)
		return value
	}
	return nil
}

// view is the text of a record without a copy. Record bytes never change, so it may be kept as long as one likes.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }

// numberValue keeps the digits of every integer within int64. One that is written with a point or an exponent is a float
// where a float64 holds it exactly.
func numberValue(literal []byte) any {
	f, _ := parseFloat(literal) // beyond float64 it is an infinity, which compares as it should
	n, reason := parseDecimal(literal).integer()
	if reason != "" || !isInteger(literal) && f < 1<<63 && int64(f) == n {
		return f
	}
	return int(n)
}

// anyValue reads the value at i of a document that the scanner has accepted, and returns the place behind it.
func anyValue(data []byte, i int) (any, int) {
	var s scanner
	switch data[i] {
	case '{':
		return objectValue(data, space(data, i+1))
	case '[':
		list := []any{}
		for i = space(data, i+1); data[i] != ']'; i = space(data, i) {
			if data[i] == ',' {
				i = space(data, i+1)
			}
			var value any
			value, i = anyValue(data, i)
			list = append(list, value)
		}
		return list, i + 1
	case '"':
		return stringValue(data, i)
	case 't':
		return true, i + len("true")
	case 'f':
		return false, i + len("false")
	case 'n':
		return nil, i + len("null")
	}
	var t token
	i = s.number(data, i, &t)
	return tokenValue(&t, data), i
}

func objectValue(data []byte, i int) (any, int) {
	object := map[string]any{}
	for ; data[i] != '}'; i = space(data, i) {
		if data[i] == ',' {
			i = space(data, i+1)
		}
		var name string
		name, i = stringValue(data, i)
		object[name], i = anyValue(data, space(data, space(data, i)+1))
	}
	return object, i + 1
}

func stringValue(data []byte, i int) (string, int) {
	var s scanner
	end, esc := s.str(data, i+1)
	text := data[i+1 : end-1]
	if esc {
		return string(unescape(nil, text)), end
	}
	return view(text), end
}
