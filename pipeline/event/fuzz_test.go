package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// loneSurrogate finds every surrogate that may be without its other half, and some pairs.
var loneSurrogate = regexp.MustCompile(`(?i)\\ud[89ab][0-9a-f]{2}([^\\]|\\[^u])|\\ud[89ab][0-9a-f]{2}\\u([^d]|d[89ab])|` +
	`([^\\]|\\[^u])\\ud[c-f]|\\u([^d]...|d[^89ab]..)\\ud[c-f]`)

func seedRecords(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(with(`"DE"`, `"\u0044\ud83d\ude00\ud83d"`)))
	f.Add([]byte(with(`250`, `-2.50e+2`)))
	f.Add([]byte(with(`1.5`, `100000000000000000000000`)))
	f.Add([]byte(with(`{"at"`, `{"x":[{},[[]],null,"\"",{"a":1}] , "at"`)))
	f.Add([]byte(with(`{"at"`, `{"shop":1,"order":null,"at"`)))
	f.Add([]byte("\t[ 1 , \"\xc3\xa9\" ]\n"))
	f.Add([]byte(`{"":{"":0}}`))
	f.Add([]byte(strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300)))
	f.Add([]byte(`{"at":-0,"shop":{"id":1e-7},"country":true,"order":{"amount":9007199254740993},"weight":4.9e-324,"note":false}`))
}

// FuzzDecode compares with encoding/json: the same documents are accepted, save that we refuse bytes that are not UTF-8
// and nesting beyond MaxDepth, and the same values are found.
func FuzzDecode(f *testing.F) {
	seedRecords(f)
	s := testSpec(f)
	plain, err := NewDecoder(s)
	require.NoError(f, err)
	taught, err := NewDecoder(s)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, record []byte) {
		if record == nil {
			return
		}
		require.NoError(t, taught.Decode([]byte(good), &Event{}))
		for _, d := range []*Decoder{plain, taught} {
			before := bytes.Clone(record)
			var ev Event
			err := d.Decode(record, &ev)
			require.Equal(t, before, record, "the record was changed")
			compare(t, s, record, &ev, err)
		}
	})
}

func compare(t *testing.T, s *spec.Spec, record []byte, ev *Event, err error) {
	var invalid *Invalid
	if err != nil {
		require.True(t, errors.As(err, &invalid))
		if invalid.Reason == TooDeep {
			require.Greater(t, bytes.Count(record, []byte("["))+bytes.Count(record, []byte("{")), MaxDepth)
			return
		}
		malformed := invalid.Reason == NotJSON || invalid.Reason == BadUTF8
		require.Equal(t, !json.Valid(record) || !utf8.Valid(record), malformed, "%s", invalid.Reason)
		if malformed {
			require.LessOrEqual(t, invalid.Offset, len(record))
			return
		}
	}
	require.True(t, json.Valid(record) && utf8.Valid(record))
	if loneSurrogate.Match(record) {
		return // encoding/json makes other texts of them, see FuzzKeyTexts
	}
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.UseNumber()
	var document any
	require.NoError(t, dec.Decode(&document))
	object, ok := document.(map[string]any)
	require.Equal(t, ok, invalid == nil || invalid.Reason != NotObject)
	if !ok {
		return
	}
	if want, field := expected(s, object, ev, t); want != "" {
		require.NotNil(t, invalid, "%s %s", want, field)
		require.Equal(t, want, invalid.Reason)
		require.Equal(t, field, invalid.Field)
	} else {
		require.NoError(t, err)
	}
}

// expected decides naively what the decoder should say, and checks the event when it should be one.
func expected(s *spec.Spec, object map[string]any, ev *Event, t *testing.T) (Reason, string) {
	at := func(path string) (any, bool) {
		var value any = object
		for _, name := range strings.Split(path, ".") {
			inner, ok := value.(map[string]any)
			if !ok {
				return nil, false
			}
			if value, ok = inner[name]; !ok {
				return nil, false
			}
		}
		return value, true
	}
	when, _ := at("at")
	number, isNumber := when.(json.Number)
	switch {
	case when == nil:
		return Missing, "at"
	case !isNumber:
		return WrongType, "at"
	}
	exact, ok := rat(number)
	if !ok {
		return skip(t)
	}
	exact.Mul(exact, big.NewRat(1e6, 1))
	ns := new(big.Int).Div(exact.Num(), exact.Denom())
	if !ns.IsInt64() {
		return BadTime, "at"
	}
	size := 0
	for _, path := range s.Event.Key {
		switch value, _ := at(path); value := value.(type) {
		case nil:
			return Missing, path
		case map[string]any, []any:
			return WrongType, path
		case string:
			if value == "" {
				return EmptyKey, path
			}
			size += 2 + len(value)
		case json.Number:
			if _, ok := rat(value); !ok {
				return skip(t)
			}
			size = 1 << 20 // not reckoned here
		default:
			size += 2 + len(strconv.FormatBool(value.(bool)))
		}
	}
	if size > s.Event.MaxKeyBytes && size < 1<<20 {
		return KeyTooLarge, s.Event.Key[0]
	}
	if size >= 1<<20 && len(object) > 0 && ev.Key == nil {
		return skip(t)
	}
	for slot, path := range Slots(s) {
		value, found := at(path)
		if !found {
			return Missing, path
		}
		if reason := expectedValue(path, value, &ev.Values, slot, s.Event.MaxValueBytes, t); reason != "" {
			return reason, path
		}
	}
	require.Equal(t, ns.Int64(), ev.Time)
	return "", ""
}

func expectedValue(path string, value any, values *[]Value, slot, limit int, t *testing.T) Reason {
	kinds := map[string]string{"order.amount": "int", "weight": "float", "note": "any", "state": "string", "paid": "bool"}
	want := Value{}
	switch value := value.(type) {
	case nil:
	case string:
		if kinds[path] != "any" && kinds[path] != "string" {
			return WrongType
		}
		want = Value{Kind: String, Str: []byte(value)}
		if len(AppendString(nil, want.Str)) > limit {
			return ValueTooLarge
		}
	case bool:
		if kinds[path] != "any" && kinds[path] != "bool" {
			return WrongType
		}
		want.Kind = Bool
		if value {
			want.Int = 1
		}
	case json.Number:
		if kinds[path] == "string" || kinds[path] == "bool" {
			return WrongType
		}
		f, err := value.Float64()
		exact, ok := rat(value)
		if !ok {
			_, _ = skip(t)
		}
		switch {
		case exact.IsInt() && exact.Num().IsInt64():
			n := exact.Num().Int64()
			want = Value{Kind: Int, Int: n, Float: float64(n)}
		case kinds[path] == "int" && exact.IsInt():
			return NumberRange
		case kinds[path] == "int":
			if exact.Num().BitLen()-exact.Denom().BitLen() > 70 {
				_, _ = skip(t) // a fraction of a number that is too large as well
			}
			return WrongType
		case err != nil:
			return NumberRange
		case !strings.ContainsAny(value.String(), ".eE"):
			want = Value{Kind: Int, Big: true, Float: f, Str: []byte(value)}
			if kinds[path] == "any" && len(value) > limit {
				return ValueTooLarge
			}
		default:
			want = Value{Kind: Float, Float: f}
		}
	default:
		return WrongType
	}
	if *values != nil {
		got := (*values)[slot]
		require.Equal(t, string(want.Str), string(got.Str))
		require.Equal(t, math.Float64bits(want.Float), math.Float64bits(got.Float), path)
		got.Str, want.Str = nil, nil
		got.Float, want.Float = 0, 0
		require.Equal(t, want, got)
	}
	return ""
}

// rat is exact, and gives up on exponents that would take all memory.
func rat(n json.Number) (*big.Rat, bool) {
	if _, exponent, found := strings.Cut(strings.ToLower(n.String()), "e"); found {
		if e, err := strconv.Atoi(exponent); err != nil || e > 1000 || e < -1000 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(n.String())
}

func skip(t *testing.T) (Reason, string) {
	t.SkipNow()
	return "", ""
}

// FuzzFloat compares the fast path for floats with strconv.
func FuzzFloat(f *testing.F) {
	for _, literal := range []string{"0.1", "-0.0", "1e22", "1e23", "9007199254740993e-3", "123456789012345678901234567890.5", "2.5e-324", "1e309"} {
		f.Add(literal)
	}
	f.Fuzz(func(t *testing.T, literal string) {
		if len(literal) == 0 || !json.Valid([]byte(literal)) || literal[0] != '-' && literal[0]-'0' > 9 {
			return
		}
		literal = strings.TrimRight(literal, " \t\r\n")
		want, err := strconv.ParseFloat(literal, 64)
		got, ok := parseFloat([]byte(literal))
		require.Equal(t, err == nil, ok)
		if ok {
			require.Equal(t, math.Float64bits(want), math.Float64bits(got))
		}
	})
}

// FuzzKeyNumbers checks that two numbers are one key exactly when they are equal, and that a key survives its JSON.
func FuzzKeyNumbers(f *testing.F) {
	for _, pair := range [][2]string{
		{"10", "1e1"}, {"0.1", "0.1000000000000000055"}, {"-0", "0e5"}, {"9007199254740993", "9007199254740992.0"}, {"1e400", "10e399"},
		{"1e-7", "0.0000001"}, {"1e308", "1e309"}, {"9223372036854775808", "9223372036854775807"}, {"1e22", "10000000000000000000000"},
		{"1e999999999", "1e999999998"}, {"0.10e-5", "1e-6"}, {"123456789012345678901234567890.5", "1234567890123456789012345678905e-1"},
		{"1" + strings.Repeat("2", 309), "1." + strings.Repeat("2", 309) + "e309"},
	} {
		f.Add(pair[0], pair[1])
	}
	s := keySpec(f)
	s.Event.MaxKeyBytes = 1 << 16
	d, err := NewDecoder(s)
	require.NoError(f, err)
	key := func(t *testing.T, number string) (key, rendered string) {
		var ev Event
		if err := d.Decode([]byte(`{"at":0,"k":`+number+`}`), &ev); err != nil {
			t.Skip(err)
		}
		text, err := KeyJSON(s, ev.Key)
		require.NoError(t, err)
		require.True(t, json.Valid(text), "%s", text)
		return string(ev.Key), strings.TrimSuffix(strings.TrimPrefix(string(text), `{"k":`), "}")
	}
	isNumber := regexp.MustCompile(`^-?[0-9][-+.eE0-9]*$`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if !isNumber.MatchString(a) || !isNumber.MatchString(b) {
			return
		}
		first, rendered := key(t, a)
		second, _ := key(t, b)
		again, _ := key(t, rendered)
		require.Equal(t, first, again)
		x, ok := rat(json.Number(a))
		y, also := rat(json.Number(b))
		if ok && also {
			require.Equal(t, x.Cmp(y) == 0, first == second, "%s %s", a, b)
			back, ok := new(big.Rat).SetString(rendered)
			require.True(t, ok && x.Cmp(back) == 0, "%s became %s", a, rendered)
		}
	})
}

// FuzzKeyTexts checks that two strings are one key exactly when they are the same UTF-16, which is what JSON can express,
// and that a key survives its JSON: as a key, and as the text that an aggregate publishes.
func FuzzKeyTexts(f *testing.F) {
	for _, pair := range [][2]string{
		{`\ud800`, `\ufffd`}, {`\ud800`, `\ud801`}, {`\ud83d\ude00`, `😀`}, {`\ude00\ud83d`, `\ud83d\ude00`}, {`\ud800x`, `\uD800x`},
		{`é`, `e\u0301`}, {`\u0000`, `\u00000`}, {`\/`, `/`}, {`\ud83d\ud83d\ude00`, `\ud83d😀`}, {`퟿\udfff`, `\ud7ff\udfff`},
	} {
		f.Add(pair[0], pair[1])
	}
	s := keySpec(f)
	s.Event.MaxKeyBytes = 1 << 16
	d, err := NewDecoder(s)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, a, b string) {
		var keys, units [2]string
		for i, body := range []string{a, b} {
			record := []byte(`{"at":0,"k":"` + body + `"}`)
			var fields map[string]any
			if json.Unmarshal(record, &fields) != nil || len(fields) != 2 || !utf8.ValidString(body) {
				return
			}
			var ev Event
			if err := d.Decode(record, &ev); err != nil {
				return
			}
			keys[i], units[i] = string(ev.Key), fmt.Sprint(codeUnits(body))
			rendered, err := KeyJSON(s, ev.Key)
			require.NoError(t, err)
			require.True(t, json.Valid(rendered) && utf8.Valid(rendered))
			require.NoError(t, d.Decode([]byte(`{"at":0,`+string(rendered[1:])), &ev))
			require.Equal(t, keys[i], string(ev.Key))
			text := unescape(nil, []byte(body))
			require.True(t, ValidText(text))
			published := AppendString(nil, text)
			for _, limit := range []int{len(published) - 1, len(published)} {
				require.Equal(t, len(published) > limit, longerThan(limit, text))
			}
		}
		require.Equal(t, units[0] == units[1], keys[0] == keys[1], "%s %s", a, b)
	})
}

// codeUnits reads the inside of a valid JSON string as UTF-16.
func codeUnits(body string) (units []uint16) {
	for len(body) > 0 {
		if body[0] != '\\' {
			r, size := utf8.DecodeRuneInString(body)
			units = utf16.AppendRune(units, r)
			body = body[size:]
			continue
		}
		if body[1] == 'u' {
			unit, _ := strconv.ParseUint(body[2:6], 16, 16)
			units = append(units, uint16(unit))
			body = body[6:]
			continue
		}
		plain, _ := strconv.Unquote(`"` + strings.Replace(body[:2], `\/`, `/`, 1) + `"`)
		units = utf16.AppendRune(units, rune(plain[0]))
		body = body[2:]
	}
	return units
}

// FuzzKeyJSON checks that a key of any string survives its way through the record, the key and JSON.
func FuzzKeyJSON(f *testing.F) {
	f.Add("ATL")
	f.Add("\x00\"\\\u2028é😀")
	s := keySpec(f)
	s.Event.MaxKeyBytes = 1 << 20
	d, err := NewDecoder(s)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || !utf8.ValidString(text) {
			return
		}
		record, err := json.Marshal(map[string]any{"at": 0, "k": text})
		require.NoError(t, err)
		var ev Event
		require.NoError(t, d.Decode(record, &ev))
		rendered, err := KeyJSON(s, ev.Key)
		require.NoError(t, err)
		var back map[string]string
		require.NoError(t, json.Unmarshal(rendered, &back))
		require.Equal(t, text, back["k"])
	})
}

// FuzzFilter feeds the expression's view of a record, which has a reader of its own.
func FuzzFilter(f *testing.F) {
	seedRecords(f)
	s := testSpec(f, func(s *spec.Spec) { s.Where = `note == 1 || shop == nil || order == 2 || $env["x"] == 3` })
	d, err := NewDecoder(s)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, record []byte) {
		if err := d.Decode(record, &Event{}); err != nil {
			return
		}
		var object map[string]any
		require.NoError(t, json.Unmarshal(numbersAsFloat(t, record), &object))
		if loneSurrogate.Match(record) {
			return
		}
		for _, name := range []string{"note", "shop", "order", "x"} {
			require.Equal(t, object[name], floats(d.filter.env[name]), name)
		}
	})
}

// numbersAsFloat skips records with numbers that encoding/json would refuse although nobody wants them.
func numbersAsFloat(t *testing.T, record []byte) []byte {
	var object map[string]any
	if json.Unmarshal(record, &object) != nil {
		t.SkipNow()
	}
	return record
}

func floats(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = floats(v[name])
		}
	}
	return v
}
