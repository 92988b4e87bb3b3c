package event

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func keySpec(t testing.TB) *spec.Spec {
	return testSpec(t, func(s *spec.Spec) {
		s.Event.Key = []string{"k"}
		s.Aggregates = []spec.Aggregate{{Name: "n", Func: "count"}}
	})
}

func TestKeyJSON(t *testing.T) {
	s := keySpec(t)
	d, err := NewDecoder(s)
	require.NoError(t, err)
	for _, c := range []struct{ field, want string }{
		{`"ATL"`, `"ATL"`},
		{`"a\"\\\n\u0001é"`, `"a\"\\\n\u0001é"`},
		{`"<&>"`, `"<&>"`},
		{`17`, `17`}, {`-17`, `-17`}, {`-0`, `0`}, {`0`, `0`}, {`1e1`, `10`}, {`10.0`, `10`}, {`-0.0`, `0`}, {`1e-999`, `1e-999`},
		{`1.0000000000000000000000001`, `1.0000000000000000000000001`},
		{`0.5`, `0.5`}, {`5e-1`, `0.5`}, {`1e-9`, `1e-9`}, {`1e30`, `1000000000000000000000000000000`},
		{`1e21`, `1000000000000000000000`}, {`1000000000000000000000`, `1000000000000000000000`}, {`1e400`, `1e+400`},
		{`-12.50e+399`, `-1.25e+400`}, {`0.000001`, `0.000001`}, {`0.00000123e-1`, `1.23e-7`}, {`123.456e1`, `1234.56`},
		{`9007199254740993.5`, `9007199254740993.5`}, {`9007199254740993.25`, `9007199254740993.25`},
		{`1e999999999`, `1e+999999999`}, {`-0e999999999999999999999999`, `0`}, {`100e999999999`, `1e+1000000001`},
		{`1e999999999999999999`, `1e+999999999999999999`},
		{`9223372036854775807`, `9223372036854775807`},
		{`9223372036854775808`, `9223372036854775808`},
		{`9.3e18`, `9300000000000000000`}, {`9300000000000000000`, `9300000000000000000`},
		{`1000000000000000000000000000000`, `1000000000000000000000000000000`},
		{`true`, `true`}, {`false`, `false`},
		{`"1"`, `"1"`}, {`"\u0000"`, `"\u0000"`}, {`"\ud800"`, `"\ud800"`}, {`"a\uDFFFb"`, `"a\udfffb"`},
		{`"\ud83d\ude00"`, `"😀"`}, {`"\ude00\ud83d"`, `"\ude00\ud83d"`}, {`"\ud83d\ud83d\ude00"`, `"\ud83d😀"`},
		{`"\ufffd"`, `"�"`}, {`"퟿"`, `"퟿"`}, {`"e\u0301"`, "\"e\u0301\""}, {`"\u00e9"`, "\"\u00e9\""},
	} {
		t.Run(c.field, func(t *testing.T) {
			var ev Event
			require.NoError(t, d.Decode([]byte(`{"at":0,"k":`+c.field+`}`), &ev))
			got, err := KeyJSON(s, ev.Key)
			require.NoError(t, err)
			require.Equal(t, `{"k":`+c.want+`}`, string(got))
			require.True(t, json.Valid(got))

			first := string(ev.Key) // the same JSON again is the same key
			require.NoError(t, d.Decode([]byte(`{"at":0,"k":`+c.want+`}`), &ev))
			require.Equal(t, first, string(ev.Key))
			back, err := AppendKeyOf([]byte("-"), got)
			require.NoError(t, err)
			require.Equal(t, "-"+first, string(back))
		})
	}
}

func TestWhatIsNoRenderedKey(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{}`, `{"k"}`, `{"k":}`, `{"k":null}`, `{"k":"a"`, `{"k":"a}`, `{"k":"a\"}`, `{"k": "a"}`, `{"k":"a",}`, `{"k":"a"}x`, `{"k":[1]}`,
		`{"k":1`, `{k:1}`, `{"k":"a""l":1}`,
	} {
		_, err := AppendKeyOf(nil, []byte(text))
		require.ErrorIs(t, err, ErrKey, text)
	}
	key, err := AppendKeyOf(nil, []byte(`{"a\"}":"x\"","b":true,"c":-1.5,"d":7}`))
	require.NoError(t, err)
	require.Equal(t, "s\x02x\"b\x04truef\x04-1.5i\x017", string(key))
}

// State that is stored holds keys in this form.
func TestOrdinaryKeysKeepTheirBytes(t *testing.T) {
	d, err := NewDecoder(keySpec(t))
	require.NoError(t, err)
	for field, want := range map[string]string{
		`"ATL"`: "s\x03ATL", `"1"`: "s\x011", `"\u00e4\n"`: "s\x03ä\n", `"\u0000"`: "s\x01\x00", `"\ud83d\ude00"`: "s\x04😀",
		`0`: "i\x010", `-0`: "i\x010", `-0.0`: "i\x010", `17`: "i\x0217", `-17`: "i\x03-17", `10.0`: "i\x0210", `1e1`: "i\x0210",
		`0.5`: "f\x030.5", `1.50`: "f\x031.5", `-2.5e-7`: "f\x07-2.5e-7", `3.25e-10`: "f\x083.25e-10", `0.1`: "f\x030.1",
		`179.99999999999997`: "f\x12179.99999999999997", `9223372036854775807`: "i\x139223372036854775807",
		`9223372036854775808`: "i\x139223372036854775808", `9.3e18`: "i\x139300000000000000000", `1e20`: "i\x15100000000000000000000",
		`340282366920938463463374607431768211455`: "i\x27340282366920938463463374607431768211455",
		`true`: "b\x04true", `false`: "b\x05false",
	} {
		var ev Event
		require.NoError(t, d.Decode([]byte(`{"at":0,"k":`+field+`}`), &ev))
		require.Equal(t, want, string(ev.Key), field)
	}
}

// A hostile number costs no more than its bytes.
func TestKeysOfHostileNumbers(t *testing.T) {
	d, err := NewDecoder(keySpec(t))
	require.NoError(t, err)
	var ev Event
	for _, c := range []struct{ field, problem string }{
		{"1e1000000000000000000", "number_range: k"},
		{"1e-1000000000000000000", "number_range: k"},
		{"1e" + strings.Repeat("9", 100_000), "number_range: k"},
		{"1e18446744073709551616", "number_range: k"}, // 2^64
		{"1e-18446744073709551621", "number_range: k"},
		{"1e9999999999999999999", "number_range: k"}, {"1e19999999999999999999", "number_range: k"},
		{"0e" + strings.Repeat("9", 100_000), ""},
		{"1e" + strings.Repeat("0", 100_000) + "1", ""},
		{"1" + strings.Repeat("0", 100_000) + "e-99999", ""},
		{"0." + strings.Repeat("0", 100_000) + "1e100001", ""},
		{strings.Repeat("9", 100_000), "key_too_large: k"},
		{"1e999999999", ""}, {"-1.5e-999999999", ""},
	} {
		record := []byte(`{"at":0,"k":` + c.field + `}`)
		if err := d.Decode(record, &ev); c.problem != "" {
			require.ErrorContains(t, err, c.problem)
		} else {
			require.NoError(t, err)
			require.Less(t, len(ev.Key), 32)
		}
		most := 0.0
		if strings.HasPrefix(c.problem, "number_range") {
			most = 3 // the error and the beginning of the value in it
		}
		require.LessOrEqual(t, testing.AllocsPerRun(10, func() { _ = d.Decode(record, &ev) }), most, "%.20s", c.field)
	}
}

// The last of two fields of one name counts, and bytes that are no UTF-8 are no key.
func TestKeyFieldsGivenTwice(t *testing.T) {
	d, err := NewDecoder(keySpec(t))
	require.NoError(t, err)
	var ev Event
	require.NoError(t, d.Decode([]byte(`{"at":0,"k":"a","\u006b":1.0}`), &ev))
	require.Equal(t, "i\x011", string(ev.Key))
	require.EqualError(t, d.Decode([]byte("{\"at\":0,\"k\":\"\xed\xa0\x80\"}"), &ev), "bad_utf8: at byte 13")
}

func TestKeyOrder(t *testing.T) {
	s := testSpec(t)
	d, err := NewDecoder(s)
	require.NoError(t, err)
	var ev Event
	require.NoError(t, d.Decode([]byte(good), &ev))
	got, err := KeyJSON(s, ev.Key)
	require.NoError(t, err)
	require.Equal(t, `{"shop.id":7,"country":"DE"}`, string(got))
}

func TestKeyJSONRefuses(t *testing.T) {
	s := keySpec(t)
	for _, key := range []string{"", "s", "s\x05abc", "x\x01a", "s\x01ab", "s\x01as\x01b", "s\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		_, err := KeyJSON(s, []byte(key))
		require.ErrorIs(t, err, ErrKey, "%q", key)
	}
}

func TestAppendFloat(t *testing.T) {
	for _, f := range []float64{0, 1, -0.25, 1e-6, 9.9e-7, 1e-9, 1.5e-10, -2e-100, 1e20, 1e21, 1.7e308, 5e-324, 1 << 53} {
		want, err := json.Marshal(f)
		require.NoError(t, err)
		require.Equal(t, string(want), string(AppendFloat(nil, f)))
	}
	require.Equal(t, "0", string(AppendFloat(nil, math.Copysign(0, -1))))
	require.Equal(t, "null", string(AppendFloat(nil, math.NaN())))
	require.Equal(t, "null", string(AppendFloat(nil, math.Inf(1))))
}
