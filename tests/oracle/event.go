package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Record is one Kafka record as its lane reads it.
type Record struct {
	Offset    int64
	Timestamp int64 // the record's own timestamp, milliseconds
	Value     []byte
}

// event is a record that is well-formed. Times are nanoseconds.
type event struct {
	time     int64
	key      string // JSON object of the key fields, in the order of the spec
	fields   map[string]any
	filtered bool
}

type decoder struct {
	spec  *Spec
	where *vm.Program
	unit  *big.Int
}

func newDecoder(s *Spec) (*decoder, error) {
	d := &decoder{spec: s}
	var err error
	if s.TimeUnit != "rfc3339" {
		if d.unit, err = unitNanos(s.TimeUnit); err != nil {
			return nil, err
		}
	}
	if s.Where != "" {
		if d.where, err = expr.Compile(s.Where, expr.AllowUndefinedVariables()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// decode answers an error for every record that must go to the dead-letter topic because of what it holds.
func (d *decoder) decode(value []byte) (*event, error) {
	ev := &event{}
	var err error
	if ev.fields, err = parse(value); err != nil {
		return nil, err
	}
	if ev.time, err = d.time(ev.fields); err != nil {
		return nil, err
	}
	if ev.key, err = d.key(ev.fields); err != nil {
		return nil, err
	}
	for _, a := range d.spec.Aggregates {
		if a.Field == "" {
			continue
		}
		if err := typed(lookup(ev.fields, a.Field), a.Type); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Field, err)
		}
		if d.tooLong(a, lookup(ev.fields, a.Field)) {
			return nil, fmt.Errorf("%s: text too long", a.Field)
		}
	}
	if d.where != nil {
		out, err := expr.Run(d.where, plain(ev.fields))
		if err != nil {
			return nil, err
		}
		keep, ok := out.(bool)
		if !ok {
			return nil, fmt.Errorf("where: %v is not true or false", out)
		}
		ev.filtered = !keep
	}
	return ev, nil
}

// tooLong reports whether a first or last would publish more of a text, or of an integer beyond int64, than the spec allows.
func (d *decoder) tooLong(a Aggregate, v any) bool {
	if d.spec.MaxValue == 0 || a.Func != "first" && a.Func != "last" {
		return false
	}
	switch v := v.(type) {
	case string:
		return len(encode(v)) > d.spec.MaxValue
	case json.Number:
		return !strings.ContainsAny(v.String(), ".eE") && len(v) > d.spec.MaxValue
	}
	return false
}

func parse(value []byte) (map[string]any, error) {
	if !utf8.Valid(value) {
		return nil, fmt.Errorf("not UTF-8")
	}
	if !json.Valid(value) {
		return nil, fmt.Errorf("not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, fmt.Errorf("null is not an object")
	}
	if depth(fields) > maxDepth {
		return nil, fmt.Errorf("nested too deep")
	}
	return fields, nil
}

// maxDepth is how deep objects and arrays may nest.
const maxDepth = 256

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	case []any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	default:
		return 0
	}
	return deepest + 1
}

// absent is what lookup answers for a field that is not there.
type absent struct{}

// lookup follows a dotted path.
func lookup(fields map[string]any, path string) any {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		fields, _ = fields[name].(map[string]any)
	}
	v, ok := fields[names[len(names)-1]]
	if !ok {
		return absent{}
	}
	return v
}

func (d *decoder) time(fields map[string]any) (int64, error) {
	v := lookup(fields, d.spec.TimeField)
	if d.spec.TimeUnit == "rfc3339" {
		s, ok := v.(string)
		if !ok {
			return 0, fmt.Errorf("time is not a string")
		}
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return 0, err
		}
		ns := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1e9))
		return int64Of(ns.Add(ns, big.NewInt(int64(t.Nanosecond()))))
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, fmt.Errorf("time is not a number")
	}
	r := rational(n)
	r.Mul(r, new(big.Rat).SetInt(d.unit))
	return int64Of(new(big.Int).Div(r.Num(), r.Denom())) // rounds down: the denominator is positive
}

func int64Of(n *big.Int) (int64, error) {
	if !n.IsInt64() {
		return 0, fmt.Errorf("time out of range")
	}
	return n.Int64(), nil
}

func (d *decoder) key(fields map[string]any) (string, error) {
	var b strings.Builder
	size := 0 // of the encoding that max_key_bytes bounds: per field one byte, the length as a varint, the text
	for i, path := range d.spec.Key {
		v := lookup(fields, path)
		switch v := v.(type) {
		case string:
			if v == "" {
				return "", fmt.Errorf("empty key")
			}
		case bool:
		case json.Number:
		default:
			return "", fmt.Errorf("key field %s is missing or not a scalar", path)
		}
		text := encode(v)
		if number, ok := v.(json.Number); ok {
			text = canonical(rational(number)) // 10, 10.0 and 1e1 are one key
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + encode(path) + ":" + text)
		n := len(text)
		if s, ok := v.(string); ok {
			n = len(s)
		}
		size += 1 + len(binary.AppendUvarint(nil, uint64(n))) + n
	}
	b.WriteByte('}')
	if size > d.spec.MaxKey {
		return "", fmt.Errorf("key too large")
	}
	return b.String(), nil
}

// canonical writes a number exactly, with an exponent when it is an integer of more than 309 digits or closer to 0 than
// 0.000001.
func canonical(r *big.Rat) string {
	digits, _ := r.FloatPrec()
	text := r.FloatString(digits)
	plain := strings.TrimPrefix(text, "-")
	sign := text[:len(text)-len(plain)]
	whole, fraction, _ := strings.Cut(plain, ".")
	exponent := len(whole) - 1
	switch {
	case r.IsInt() && len(whole) <= 309, fraction != "" && (whole != "0" || !strings.HasPrefix(fraction, "000000")):
		return text
	case !r.IsInt():
		exponent = -1 - strings.IndexFunc(fraction, func(c rune) bool { return c != '0' })
	}
	mantissa := strings.Trim(whole+fraction, "0")
	if len(mantissa) > 1 {
		mantissa = mantissa[:1] + "." + mantissa[1:]
	}
	return fmt.Sprintf("%s%se%+d", sign, mantissa, exponent)
}

// typed says whether a field may be aggregated as typ. A null may: it is a field without a value, which the aggregate
// leaves out.
func typed(v any, typ string) error {
	switch v := v.(type) {
	case nil:
	case json.Number:
		if typ == "string" || typ == "bool" {
			return fmt.Errorf("a number is not of type %s", typ)
		}
		if r := rational(v); typ == "int" && (!r.IsInt() || !r.Num().IsInt64()) {
			return fmt.Errorf("%v is not an integer, or out of range", v)
		}
		if _, err := strconv.ParseFloat(v.String(), 64); err != nil {
			return err
		}
	case string:
		if typ != "string" && typ != "any" {
			return fmt.Errorf("text is not of type %s", typ)
		}
	case bool:
		if typ != "bool" && typ != "any" {
			return fmt.Errorf("a truth value is not of type %s", typ)
		}
	default:
		return fmt.Errorf("missing or not a scalar")
	}
	return nil
}

func integer(n json.Number) bool { return !strings.ContainsAny(n.String(), ".eE") }

// rational is the exact value of a number. Exponents beyond those of every type are cut off.
func rational(n json.Number) *big.Rat {
	text := n.String()
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if e, err := strconv.Atoi(text[i+1:]); err != nil || e > 5000 || e < -5000 {
			sign := map[bool]string{true: "-", false: ""}[text[i+1] == '-']
			text = text[:i] + "e" + sign + "5000"
		}
	}
	r, _ := new(big.Rat).SetString(text)
	return r
}

// scalar brings numbers into one form: integers within int64 and integer literals exact, everything else as float64, and
// no negative zero.
func scalar(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if r := rational(n); r.IsInt() && r.Num().IsInt64() {
		return r.Num()
	}
	if integer(n) {
		return v
	}
	f, _ := n.Float64()
	return f + 0
}

// plain turns numbers into the int and float64 that expressions compute with.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.Atoi(v.String()); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = plain(v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "null"
	}
	return strings.TrimSuffix(b.String(), "\n")
}
