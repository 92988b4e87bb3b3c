package event

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// testSpec has every kind of wanted place: nested fields, several keys, a slot with two demands, and a filter.
func testSpec(t testing.TB, change ...func(*spec.Spec)) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(`
name: orders
source: {topics: [orders]}
event:
  key: [shop.id, country]
  time: {field: at, unit: ms}
  max_key_bytes: 64
  max_value_bytes: 40
aggregates:
  orders: {func: count}
  total:  {func: sum, field: order.amount, type: int}
  mean:   {func: avg, field: order.amount}
  weight: {func: max, field: weight}
  last:   {func: last, field: note}
  state:  {func: last, field: state, type: string}
  paid:   {func: first, field: paid, type: bool}
windows: [{name: minutely, size: 1m}]
results: {kafka: {topic: orders.windows}}
`))
	require.NoError(t, err)
	for _, c := range change {
		c(s)
	}
	return s
}

const good = `{"at":1700000000123,"shop":{"id":7},"country":"DE","order":{"amount":250},"weight":1.5,"note":"n","state":"new","paid":true}`

// with returns the good record with one piece of its text replaced.
func with(old, new string) string { return strings.Replace(good, old, new, 1) }

func TestDecodeGood(t *testing.T) {
	d, err := NewDecoder(testSpec(t))
	require.NoError(t, err)
	var ev Event
	for range 3 { // also once the layout is known
		require.NoError(t, d.Decode([]byte(good), &ev))
		require.Equal(t, int64(1700000000123_000000), ev.Time)
		require.Equal(t, "i\x017s\x02DE", string(ev.Key))
		require.False(t, ev.Filtered)
		require.Equal(t, []Value{
			{Kind: Int, Int: 250, Float: 250},
			{Kind: Float, Float: 1.5},
			{Kind: String, Str: []byte("n")},
			{Kind: String, Str: []byte("new")},
			{Kind: Bool, Int: 1},
		}, ev.Values)
	}
}

func TestDecodeRefuses(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for _, c := range []struct {
		name, record string
		reason       Reason
		field        string
	}{
		{"empty", ``, NotJSON, ""},
		{"space only", ` `, NotJSON, ""},
		{"cut off", good[:len(good)-1], NotJSON, ""},
		{"trailing garbage", good + `x`, NotJSON, ""},
		{"two documents", good + good, NotJSON, ""},
		{"trailing comma", with(`true}`, `true,}`), NotJSON, ""},
		{"bad escape in an unwanted string", with(`{"at"`, `{"x":"\q","at"`), NotJSON, ""},
		{"short \\u escape", with(`{"at"`, `{"x":"\u12","at"`), NotJSON, ""},
		{"raw newline in a string", with(`"DE"`, "\"D\nE\""), NotJSON, ""},
		{"invalid UTF-8 in an unwanted string", with(`{"at"`, "{\"x\":\"\xff\",\"at\""), BadUTF8, ""},
		{"invalid UTF-8 in a field name", with(`{"at"`, "{\"\xc3\":1,\"at\""), BadUTF8, ""},
		{"invalid UTF-8 in the key", with(`"DE"`, "\"D\x80\""), BadUTF8, ""},
		{"byte order mark", "\ufeff" + good, NotJSON, ""},
		{"leading zero", with(`250`, `0250`), NotJSON, ""},
		{"bare point", with(`1.5`, `1.`), NotJSON, ""},
		{"plus sign", with(`1.5`, `+1.5`), NotJSON, ""},
		{"NaN", with(`1.5`, `NaN`), NotJSON, ""},
		{"single quotes", with(`"DE"`, `'DE'`), NotJSON, ""},
		{"too deep", with(`{"at"`, `{"x":`+deep+`,"at"`), TooDeep, ""},
		{"array", `[1]`, NotObject, ""},
		{"null", `null`, NotObject, ""},
		{"number", `17`, NotObject, ""},
		{"no time", with(`"at"`, `"xt"`), Missing, "at"},
		{"null time", with(`1700000000123`, `null`), Missing, "at"},
		{"text time", with(`1700000000123`, `"1700000000123"`), WrongType, "at"},
		{"boolean time", with(`1700000000123`, `true`), WrongType, "at"},
		{"time out of range", with(`1700000000123`, `9300000000000`), BadTime, "at"},
		{"time far out of range", with(`1700000000123`, `1e400`), BadTime, "at"},
		{"no key", with(`"country"`, `"land"`), Missing, "country"},
		{"null key", with(`"DE"`, `null`), Missing, "country"},
		{"empty key", with(`"DE"`, `""`), EmptyKey, "country"},
		{"object key", with(`"DE"`, `{}`), WrongType, "country"},
		{"array key", with(`"DE"`, `["DE"]`), WrongType, "country"},
		{"key not inside an object", with(`{"id":7}`, `7`), Missing, "shop.id"},
		{"key beyond every exponent", with(`7}`, `1e1000000000000000000}`), NumberRange, "shop.id"},
		{"long text", with(`"n"`, `"`+strings.Repeat("n", 39)+`"`), ValueTooLarge, "note"},
		{"text that grows in JSON", with(`"n"`, `"`+strings.Repeat(`\u0001`, 7)+`"`), ValueTooLarge, "note"},
		{"text that grows by a quote", with(`"n"`, `"`+strings.Repeat("n", 37)+`\""`), ValueTooLarge, "note"},
		{"long text of a typed aggregate", with(`"new"`, `"`+strings.Repeat("n", 39)+`"`), ValueTooLarge, "state"},
		{"long integer", with(`"n"`, strings.Repeat("7", 41)), ValueTooLarge, "note"},
		{"large key", with(`DE`, strings.Repeat("D", 60)), KeyTooLarge, "shop.id"},
		{"no aggregate field", with(`"amount"`, `"price"`), Missing, "order.amount"},
		{"aggregate field not inside an object", with(`{"amount":250}`, `250`), Missing, "order.amount"},
		{"fraction for int", with(`250`, `2.5`), WrongType, "order.amount"},
		{"tiny fraction for int", with(`250`, `1234567890123456789.5`), WrongType, "order.amount"},
		{"int beyond int64", with(`250`, `9223372036854775808`), NumberRange, "order.amount"},
		{"exponent beyond int64", with(`250`, `1e19`), NumberRange, "order.amount"},
		{"text for int", with(`250`, `"250"`), WrongType, "order.amount"},
		{"boolean for float", with(`1.5`, `true`), WrongType, "weight"},
		{"float beyond float64", with(`1.5`, `1e309`), NumberRange, "weight"},
		{"object for any", with(`"n"`, `{}`), WrongType, "note"},
		{"number for string", with(`"new"`, `1`), WrongType, "state"},
		{"boolean for string", with(`"new"`, `true`), WrongType, "state"},
		{"text for boolean", with(`true`, `"true"`), WrongType, "paid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := NewDecoder(testSpec(t))
			require.NoError(t, err)
			var ev Event
			for range 2 {
				var invalid *Invalid
				require.ErrorAs(t, d.Decode([]byte(c.record), &ev), &invalid)
				require.Equal(t, c.reason, invalid.Reason)
				require.Equal(t, c.field, invalid.Field)
				require.NoError(t, d.Decode([]byte(good), &ev), "the next record")
			}
		})
	}
}

func TestTombstone(t *testing.T) {
	d, err := NewDecoder(testSpec(t))
	require.NoError(t, err)
	require.EqualError(t, d.Decode(nil, &Event{}), "tombstone")
	require.EqualError(t, d.Decode([]byte{}, &Event{}), "not_json: at byte 0")
}

func TestDecodeAccepts(t *testing.T) {
	for _, c := range []struct {
		name, record string
		check        func(t *testing.T, ev *Event)
	}{
		{"space everywhere", strings.NewReplacer(":", " : ", ",", "\t,\r\n", "{", "{ ", "}", " }").Replace(good) + " \n", nil},
		{"unwanted values of all kinds", with(`{"at"`, `{"x":[1,{"at":[]},null,true,false,-0.5e-7,"é\n"],"y":{},"at"`), nil},
		{"escaped field name", with(`"country"`, `"\u0063ountry"`), nil},
		{"escaped key", with(`"DE"`, `"\u0044E"`), nil},
		{"deepest nesting", with(`{"at"`, `{"x":`+strings.Repeat("[", MaxDepth-1)+strings.Repeat("]", MaxDepth-1)+`,"at"`), nil},
		{"last of a repeated field", with(`{"at"`, `{"at":"never","country":"FR","at"`), nil},
		{"last of a repeated object", with(`{"at"`, `{"shop":{"id":1},"order":{"amount":9},"at"`), nil},
		{"integral fraction for int", with(`250`, `250.000`), nil},
		{"integral exponent for int", with(`250`, `2.5E+2`), nil},
		{"integral float as key", with(`7}`, `7.0}`), nil},
		{"big integer for float", with(`1.5`, `100000000000000000000`), func(t *testing.T, ev *Event) {
			require.Equal(t, Value{Kind: Int, Big: true, Float: 1e20, Str: []byte("100000000000000000000")}, ev.Values[1])
		}},
		{"an integer for float, whatever its form", with(`1.5`, `17090071993781977840e-1`), func(t *testing.T, ev *Event) {
			require.Equal(t, Value{Kind: Int, Int: 1709007199378197784, Float: 1709007199378197784}, ev.Values[1])
		}},
		{"an integer for any, whatever its form", with(`"n"`, `1709007199378197784.0`), func(t *testing.T, ev *Event) {
			require.Equal(t, Value{Kind: Int, Int: 1709007199378197784, Float: 1709007199378197784}, ev.Values[2])
		}},
		{"a negative zero is a zero", with(`1.5`, `-0.0`), func(t *testing.T, ev *Event) {
			require.Equal(t, Value{Kind: Int}, ev.Values[1])
			require.False(t, math.Signbit(ev.Values[1].Float))
		}},
		{"largest int64", with(`250`, `9223372036854775807`), func(t *testing.T, ev *Event) {
			require.Equal(t, int64(9223372036854775807), ev.Values[0].Int)
		}},
		{"smallest int64", with(`250`, `-9223372036854775808`), func(t *testing.T, ev *Event) {
			require.Equal(t, int64(-9223372036854775808), ev.Values[0].Int)
		}},
		{"null to aggregate", with(`250`, `null`), func(t *testing.T, ev *Event) {
			require.Equal(t, Value{}, ev.Values[0])
		}},
		{"escapes in a value", with(`"n"`, `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx"`), func(t *testing.T, ev *Event) {
			require.Equal(t, "\"\\/\b\f\n\r\té😀\xed\xa0\xbdx", string(ev.Values[2].Str))
		}},
		{"two strings with escapes", with(`"n","state":"new"`, `"\n","state":"n\u0065w"`), func(t *testing.T, ev *Event) {
			require.Equal(t, "\n", string(ev.Values[2].Str))
			require.Equal(t, "new", string(ev.Values[3].Str))
		}},
		{"a long string", with(`"n"`, `"`+strings.Repeat("x", 1<<20)+`"`), func(t *testing.T, ev *Event) {
			require.Len(t, ev.Values[2].Str, 1<<20)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := NewDecoder(testSpec(t, func(s *spec.Spec) { s.Event.MaxValueBytes = 2 << 20 }))
			require.NoError(t, err)
			var want, ev Event
			require.NoError(t, d.Decode([]byte(good), &want))
			key, values := string(want.Key), append([]Value(nil), want.Values...)
			for range 2 {
				require.NoError(t, d.Decode([]byte(c.record), &ev))
				require.Equal(t, want.Time, ev.Time)
				require.Equal(t, key, string(ev.Key))
				if c.check == nil {
					require.Equal(t, values, ev.Values)
				} else {
					c.check(t, &ev)
				}
			}
		})
	}
}

// A producer that changes its layout, or adds space, must never be read by what was learned of another layout.
func TestLayoutsChange(t *testing.T) {
	d, err := NewDecoder(testSpec(t))
	require.NoError(t, err)
	layouts := []string{
		good,
		strings.ReplaceAll(good, ":", ": "),
		with(`"at":1700000000123,`, ``)[:len(good)-len(`"at":1700000000123,`)-1] + `,"at":1700000000123}`,
		strings.ReplaceAll(good, `"country":"DE","order"`, `"order"`)[:len(good)-len(`"country":"DE",`)-1] + `,"country":"DE"}`,
		with(`"country"`, `"countries":0,"country"`),
		with(`"country"`, `"countr":0,"country"`),
	}
	var ev Event
	for range maxLessons {
		for _, record := range layouts {
			require.NoError(t, d.Decode([]byte(record), &ev), record)
			require.Equal(t, int64(1700000000123_000000), ev.Time)
			require.Equal(t, "i\x017s\x02DE", string(ev.Key))
			require.Equal(t, int64(250), ev.Values[0].Int)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		where, record string
		filtered      bool
		problem       string
	}{
		{`order.amount > 100`, good, false, ""},
		{`order.amount > 300`, good, true, ""},
		{`weight == 1.5 and note in ["n", "m"]`, good, false, ""},
		{`$env["order"].amount == 250 && paid`, good, false, ""},
		{`coupon == nil`, good, false, ""},
		{`coupon?.code == "X"`, good, true, ""},
		{`tags[1] == "b\n" and len(tags) == 3 and tags[2].x == 2.5`, with(`{"at"`, `{"tags": [ "a" , "b\n", {"x":2.5,"y":null} ],"at"`), false, ""},
		{`any(lines, .qty > 2)`, with(`{"at"`, `{"lines":[{"qty":1},{"qty":3, "ok":true, "no":false}],"at"`), false, ""},
		{`big > 1e18 && huge > 1e300`, with(`{"at"`, `{"big":9223372036854775808,"huge":1e999,"at"`), false, ""},
		{`a == 9007199254740993 and a != b and c + 0 == a`,
			with(`{"at"`, `{"a":9007199254740993.0,"b":9007199254740992.0,"c":900719925474099300e-2,"at"`), false, ""},
		{`type(a) == "float" and type(b) == "int" and a == b`, with(`{"at"`, `{"a":30e-1,"b":3,"at"`), false, ""},
		{`big * 4 > 0`, with(`{"at"`, `{"big":9223372036854775807,"at"`), false, "filter_error: where: 9223372036854775807 * 4 is beyond int64"},
		{`coupon.code == "X"`, good, false, "filter_error: where: cannot fetch code from null"},
		{`coupon > 3`, good, false, "filter_error: where: invalid operation: null > number"},
		{`note`, good, false, "filter_error: where: got a text, want a boolean"},
	} {
		t.Run(c.where, func(t *testing.T) {
			d, err := NewDecoder(testSpec(t, func(s *spec.Spec) { s.Where = c.where }))
			require.NoError(t, err)
			var ev Event
			err = d.Decode([]byte(c.record), &ev)
			if c.problem != "" {
				require.EqualError(t, err, c.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.filtered, ev.Filtered)
		})
	}
}

// What is invalid is refused before the filter has a say.
func TestInvalidBeforeFilter(t *testing.T) {
	d, err := NewDecoder(testSpec(t, func(s *spec.Spec) { s.Where = `false` }))
	require.NoError(t, err)
	var ev Event
	require.NoError(t, d.Decode([]byte(good), &ev))
	require.True(t, ev.Filtered)
	require.EqualError(t, d.Decode([]byte(with(`1.5`, `"heavy"`)), &ev), `wrong_type: weight is "heavy"; want a number`)
}

func TestInvalidIsKept(t *testing.T) {
	d, err := NewDecoder(testSpec(t))
	require.NoError(t, err)
	var ev Event
	first := d.Decode([]byte(with(`1.5`, `"heavy"`)), &ev)
	second := d.Decode([]byte(with(`"DE"`, `""`)), &ev)
	require.EqualError(t, first, `wrong_type: weight is "heavy"; want a number`)
	require.EqualError(t, second, `empty_key: country is ""; want a text that is not empty`)
	require.False(t, errors.Is(first, second))
}

// Whoever reads a dead letter sees what stands in the field and what would be valid there.
func TestInvalidNamesValueAndWant(t *testing.T) {
	long := strings.Repeat("é", 100)
	for _, c := range [][2]string{
		{`[1]`, "not_object: the record is [1]; want an object"},
		{with(`"at"`, `"xt"`), "missing_field: at; want a number of milliseconds since 1970, within the years 1678 to 2261"},
		{with(`1700000000123`, `null`), "missing_field: at is null; want a number of milliseconds since 1970, within the years 1678 to 2261"},
		{with(`1700000000123`, `"2024-01-01"`), `wrong_type: at is "2024-01-01"; want a number of milliseconds since 1970, within the years 1678 to 2261`},
		{with(`1700000000123`, `9300000000000`), "bad_time: at is 9300000000000; want a number of milliseconds since 1970, within the years 1678 to 2261"},
		{with(`"country"`, `"land"`), "missing_field: country; want a text, a number, true or false"},
		{with(`"DE"`, `{"a":[1,2]}`), `wrong_type: country is an object; want a text, a number, true or false`},
		{with(`7}`, `1e1000000000000000000}`), "number_range: shop.id is 1e1000000000000000000; want a number whose exponent has up to 18 digits"},
		{with(`"amount"`, `"price"`), "missing_field: order.amount; want an integer"},
		{with(`250`, `2.5`), "wrong_type: order.amount is 2.5; want an integer"},
		{with(`250`, `1e19`), "number_range: order.amount is 1e19; want an integer within int64"},
		{with(`1.5`, `1e309`), "number_range: weight is 1e309; want a number within float64"},
		{with(`1.5`, `true`), "wrong_type: weight is true; want a number"},
		{with(`1.5`, `"`+long+`"`), `wrong_type: weight is "` + long[:62] + `...; want a number`},
		{with(`"n"`, `["n"]`), `wrong_type: note is a list; want a text, a number, true or false`},
		{with(`"new"`, `false`), "wrong_type: state is false; want a text"},
		{with(`true`, `1`), "wrong_type: paid is 1; want true or false"},
	} {
		d, err := NewDecoder(testSpec(t))
		require.NoError(t, err)
		for range 2 {
			require.EqualError(t, d.Decode([]byte(c[0]), &Event{}), c[1])
		}
	}
	d, err := NewDecoder(testSpec(t, func(s *spec.Spec) { s.Event.Time.Unit = "rfc3339" }))
	require.NoError(t, err)
	require.EqualError(t, d.Decode([]byte(with(`1700000000123`, `"2024-01-01"`)), &Event{}),
		`bad_time: at is "2024-01-01"; want an RFC 3339 text such as "2001-01-01T05:00:00Z", within the years 1678 to 2261`)
	require.EqualError(t, d.Decode([]byte(good), &Event{}),
		`wrong_type: at is 1700000000123; want an RFC 3339 text such as "2001-01-01T05:00:00Z", within the years 1678 to 2261`)
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for name, record := range map[string]string{
		"good":      good,
		"escapes":   with(`"n"`, `"\u00e9\n"`),
		"names":     with(`"country"`, `"\u0063ountry"`),
		"float key": with(`7}`, `7.25}`),
		"decimal":   with(`1700000000123`, `1700000000123.25`),
		"missing":   with(`"amount"`, `"price"`),
	} {
		d, err := NewDecoder(testSpec(t))
		require.NoError(t, err)
		var ev Event
		data := []byte(record)
		decode := func() { _ = d.Decode(data, &ev) }
		decode()
		require.Zero(t, testing.AllocsPerRun(100, decode), name)
	}
}

func TestSlots(t *testing.T) {
	s := testSpec(t)
	require.Equal(t, []string{"order.amount", "weight", "note", "state", "paid"}, Slots(s))
	var slots []int
	for i := range s.Aggregates {
		slots = append(slots, SlotOf(s, i))
	}
	require.Equal(t, []int{-1, 0, 0, 1, 2, 3, 4}, slots)
}
