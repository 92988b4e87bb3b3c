package agg

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// one returns a table of a single aggregate with the values folded into one row.
func one(t *testing.T, fn, typ string, values ...event.Value) *Table {
	table := newTable(t, &spec.Spec{Aggregates: []spec.Aggregate{{Name: "a", Func: fn, Field: "x", Type: typ}}})
	row := table.Row([]byte("k"))
	for i, v := range values {
		table.Add(row, &event.Event{Values: []event.Value{v}}, int64(i))
	}
	return table
}

func TestPublishedValues(t *testing.T) {
	var null event.Value
	for _, c := range []struct {
		name, fn, typ string
		values        []event.Value
		want          string
		overflow      bool
	}{
		{"count counts nulls", "count", "", []event.Value{null, null}, "2", false},
		{"integral float", "sum", "", []event.Value{integer(-9)}, "-9", false},
		{"sum of nothing", "sum", "int", []event.Value{null}, "0", false},
		{"float sum of nothing", "sum", "", []event.Value{null}, "0", false},
		{"avg of nothing", "avg", "int", []event.Value{null}, "null", false},
		{"float avg of nothing", "avg", "", []event.Value{null}, "null", false},
		{"min of nothing", "min", "int", []event.Value{null}, "null", false},
		{"float max of nothing", "max", "", []event.Value{null}, "null", false},
		{"last of nothing", "last", "", []event.Value{null}, "null", false},
		{"nulls do not weigh", "avg", "", []event.Value{integer(1), null, integer(2)}, "1.5", false},
		{"largest int sum", "sum", "int", []event.Value{integer(math.MaxInt64)}, "9223372036854775807", false},
		{"int sum too large", "sum", "int", []event.Value{integer(math.MaxInt64), integer(1)}, "null", true},
		{"smallest int sum", "sum", "int", []event.Value{integer(math.MinInt64)}, "-9223372036854775808", false},
		{"int sum too small", "sum", "int", []event.Value{integer(math.MinInt64), integer(-1)}, "null", true},
		{"int sum comes back", "sum", "int", []event.Value{integer(math.MaxInt64), integer(1), integer(-1)}, "9223372036854775807", false},
		{"avg of a large sum", "avg", "int", []event.Value{integer(math.MaxInt64), integer(math.MaxInt64)}, "9223372036854776000", false},
		{"avg third", "avg", "int", []event.Value{integer(1), integer(0), integer(0)}, "0.3333333333333333", false},
		{"float sum too large", "sum", "", []event.Value{float(math.MaxFloat64), float(math.MaxFloat64)}, "null", true},
		{"float sum comes back", "sum", "", []event.Value{float(-math.MaxFloat64), float(-math.MaxFloat64), float(math.MaxFloat64)}, "-1.7976931348623157e+308", false},
		{"float sum that rounds to too large", "sum", "", []event.Value{float(math.MaxFloat64), float(math.Ldexp(1, 970))}, "null", true},
		{"float sum that rounds to the largest", "sum", "", []event.Value{float(math.MaxFloat64), float(math.Ldexp(0.75, 970))}, "1.7976931348623157e+308", false},
		{"float avg of too large a sum", "avg", "", []event.Value{float(math.MaxFloat64), float(math.MaxFloat64)}, "1.7976931348623157e+308", false},
		{"integers keep their digits", "sum", "", []event.Value{integer(math.MaxInt64), integer(-2)}, "9223372036854775805", false},
		{"integers beyond int64 are floats", "sum", "", []event.Value{integer(math.MaxInt64), integer(1)}, "9223372036854776000", false},
		{"greatest integer by default", "max", "", []event.Value{integer(math.MaxInt64), float(0.5), integer(math.MaxInt64 - 1)}, "9223372036854775807", false},
		{"smallest integer by default", "min", "", []event.Value{integer(math.MinInt64), float(-9.223372036854775e18)}, "-9223372036854775808", false},
		{"float of smallest int64", "min", "", []event.Value{float(-1 << 63), integer(math.MaxInt64)}, "-9223372036854775808", false},
		{"small beside large", "sum", "", []event.Value{float(1), float(1e100), float(1), float(-1e100)}, "2", false},
		{"negative zero sum", "sum", "", []event.Value{float(math.Copysign(0, -1))}, "0", false},
		{"negative zero min", "min", "", []event.Value{float(math.Copysign(0, -1))}, "0", false},
		{"negative zero first", "first", "", []event.Value{float(math.Copysign(0, -1))}, "0", false},
		{"min int", "min", "int", []event.Value{integer(math.MaxInt64), integer(math.MaxInt64 - 1)}, "9223372036854775806", false},
		{"max int", "max", "int", []event.Value{integer(math.MinInt64)}, "-9223372036854775808", false},
		{"first of a tie", "first", "", []event.Value{text("a"), text("b")}, `"a"`, false},
		{"last of a tie", "last", "", []event.Value{text("a"), text("b")}, `"b"`, false},
		{"last bool", "last", "", []event.Value{{Kind: event.Bool, Int: 1}}, "true", false},
		{"last big", "last", "", []event.Value{{Kind: event.Int, Big: true, Str: []byte("-123456789012345678901")}}, "-123456789012345678901", false},
		{"escapes", "last", "", []event.Value{text("\"\\\n\x01<é")}, `"\"\\\n\u0001<é"`, false},
		{"empty text", "last", "", []event.Value{text("")}, `""`, false},
		{"text of 8", "last", "", []event.Value{text("12345678")}, `"12345678"`, false},
		{"text of 9", "last", "", []event.Value{text("123456789")}, `"123456789"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := one(t, c.fn, c.typ, c.values...)
			require.Equal(t, `{"a":`+c.want+`}`, string(table.AppendValues(nil, 0)))
			require.Equal(t, c.overflow, table.Overflow(0))

			again := table.layout.NewTable() // the entry says the same
			require.NoError(t, again.LoadEntry([]byte("k"), table.AppendEntry(nil, 0, 9)))
			require.Equal(t, `{"a":`+c.want+`}`, string(again.AppendValues(nil, 0)))
			require.Equal(t, c.overflow, again.Overflow(0))
		})
	}
}

func TestFlightsExample(t *testing.T) {
	table := newTable(t, flightsSpec())
	row := table.Row([]byte("s\x03ATL"))
	for i, delay := range []int64{-9, 19, -13, 0, 0, 0, 0, 0, 0, 0, 0, 0} {
		ev := flight(delay, []string{"JFK", "SAV"}[i&1])
		ev.Time = int64(i)
		table.Add(row, &ev, int64(i))
	}
	require.Equal(t, `{"flights":12,"delay_sum":-3,"delay_avg":-0.25,"delay_min":-13,"delay_max":19,"last_to":"SAV"}`,
		string(table.AppendValues(nil, row)))
}

func TestNoAggregates(t *testing.T) {
	table := newTable(t, &spec.Spec{})
	require.Equal(t, "{}", string(table.AppendValues(nil, table.Row(nil))))
}

func TestNumbersAreWrittenAsEncodingJSONDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	values := []float64{0, 1, -1, 1e-6, 9.99e-7, 1e-7, 1e-10, 1e20, 1e21, -1e21, 1e100, 5e-324, math.MaxFloat64, 1 << 53, 0.1, -9}
	for range 5_000 {
		if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			values = append(values, f, math.Trunc(f), float64(r.Int64N(1000)-500)/8)
		}
	}
	for _, f := range values {
		want, err := json.Marshal(f + 0)
		require.NoError(t, err)
		require.Equal(t, string(want), string(appendNumber(nil, f)))
	}
}

func TestQuotientsAreRoundedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 5_000 {
		a := int128{hi: r.Int64() >> r.IntN(64), lo: r.Uint64()}
		if r.IntN(2) == 0 {
			a.hi >>= 63
			a.lo = uint64(a.hi) ^ r.Uint64()>>r.IntN(64)
		}
		n := r.Int64()>>r.IntN(63) + 1
		want, _ := new(big.Rat).SetFrac(a.big(), big.NewInt(n)).Float64()
		require.Equal(t, want, a.div(n), "%v / %d", a, n)
	}
}

func TestInt128(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 5_000 {
		a := int128{hi: (r.Int64() - r.Int64()) >> r.IntN(64), lo: r.Uint64() >> r.IntN(64)}
		b := int128{hi: (r.Int64() - r.Int64()) >> (1 + r.IntN(63)), lo: r.Uint64()}
		a.hi >>= 1
		require.Equal(t, new(big.Int).Add(a.big(), b.big()), a.add(b).big())

		v, ok := a.int64()
		require.Equal(t, a.big().IsInt64(), ok)
		if ok {
			require.Equal(t, a.big().Int64(), v)
		}
		n := r.Int64() >> r.IntN(63)
		limit := new(big.Int).Lsh(big.NewInt(n), 63)
		require.Equal(t, a.big().CmpAbs(limit) <= 0, a.within(n))

		rd := reader{buf: appendInt128(nil, a)}
		require.Equal(t, a, rd.int128())
		require.NoError(t, rd.err)
		require.Zero(t, rd.left())
	}
	for _, a := range []int128{{}, {-1, math.MaxUint64}, {math.MinInt64, 0}, {math.MaxInt64, math.MaxUint64}} {
		rd := reader{buf: appendInt128(nil, a)}
		require.Equal(t, a, rd.int128())
		require.NoError(t, rd.err)
	}
}

// Sums at ±2^62 over lanes pass int64 on the way and come back, or do not.
func TestLargeSumsOverLanes(t *testing.T) {
	l, err := NewLayout(&spec.Spec{Aggregates: []spec.Aggregate{{Name: "a", Func: "sum", Field: "x", Type: "int"}}})
	require.NoError(t, err)
	partial := func(value int64, times int) []byte {
		table := l.NewTable()
		row := table.Row([]byte("k"))
		for i := range times {
			table.Add(row, &event.Event{Values: []event.Value{integer(value)}}, int64(i))
		}
		return table.AppendEntry(nil, row, int64(times))
	}
	for _, c := range []struct {
		name string
		up   int
		down int
		want string
	}{
		{"cancel", 1000, 1000, "0"},
		{"one up", 1001, 1000, "4611686018427387904"},
		{"two down", 1000, 1002, "-9223372036854775808"},
		{"two up", 1002, 1000, "null"},
		{"three down", 1000, 1003, "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := l.NewTable()
			require.NoError(t, table.MergeEntry([]byte("k"), partial(1<<62, c.up), 0))
			require.NoError(t, table.MergeEntry([]byte("k"), partial(-1<<62, c.down), 1))
			require.Equal(t, `{"a":`+c.want+`}`, string(table.AppendValues(nil, 0)))
			require.Equal(t, c.want == "null", table.Overflow(0))
		})
	}
}
