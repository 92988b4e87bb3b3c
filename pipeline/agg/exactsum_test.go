package agg

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// floatSpec has every function of floats over one field.
func floatSpec() *spec.Spec {
	s := &spec.Spec{}
	for _, fn := range []string{"sum", "avg", "min", "max"} {
		s.Aggregates = append(s.Aggregates, spec.Aggregate{Name: fn, Func: fn, Field: "x", Type: "float"})
	}
	return s
}

// smallest is 2^1074: a float64 times it is an integer.
var smallest = new(big.Int).Lsh(big.NewInt(1), 1074)

// exactly is the value's number, times 2^1074.
func exactly(v event.Value) *big.Int {
	if v.Kind == event.Int && !v.Big {
		return new(big.Int).Mul(big.NewInt(v.Int), smallest)
	}
	x := new(big.Float).SetFloat64(v.Float)
	scaled, _ := x.SetMantExp(x, 1074).Int(nil)
	return scaled
}

// published is the JSON of an exact result by the definition in docs/spec.md.
func published(r *big.Rat, digits bool) string {
	if digits && r.IsInt() && r.Num().IsInt64() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	if math.IsInf(f, 0) {
		return "null"
	}
	return string(appendNumber(nil, f))
}

// exactValues computes what floatSpec publishes for values, none of them null, with math/big alone.
func exactValues(values []event.Value) string {
	sum, least, most := new(big.Int), exactly(values[0]), exactly(values[0])
	for _, v := range values {
		x := exactly(v)
		sum.Add(sum, x)
		if x.Cmp(least) < 0 {
			least = x
		}
		if x.Cmp(most) > 0 {
			most = x
		}
	}
	whole := func(x *big.Int) *big.Rat { return new(big.Rat).SetFrac(x, smallest) }
	mean := whole(sum)
	mean.Quo(mean, new(big.Rat).SetInt64(int64(len(values))))
	return fmt.Sprintf(`{"sum":%s,"avg":%s,"min":%s,"max":%s}`,
		published(whole(sum), true), published(mean, false), published(whole(least), true), published(whole(most), true))
}

// adversarialSets draw values that sums of floats get wrong.
var adversarialSets = []struct {
	name string
	draw func(r *rand.Rand, n int) []event.Value
}{
	{"nearly cancelling", func(r *rand.Rand, n int) (out []event.Value) {
		for range n {
			x := math.Ldexp(r.Float64(), r.IntN(200)-100)
			out = append(out, float(x), float(-x))
		}
		return append(out, float(r.NormFloat64()), float(math.Ldexp(1, -r.IntN(300))))
	}},
	{"any bits", func(r *rand.Rand, n int) (out []event.Value) {
		for len(out) < n {
			if f := math.Float64frombits(r.Uint64()); math.Abs(f) <= math.MaxFloat64 {
				out = append(out, float(f))
			}
		}
		return out
	}},
	{"subnormals", func(r *rand.Rand, n int) (out []event.Value) {
		for range n {
			x := math.Float64frombits(r.Uint64() & (1<<54 - 1) >> r.IntN(50))
			out = append(out, float(x*float64(1-2*r.IntN(2))))
		}
		return out
	}},
	{"out of range and back", func(r *rand.Rand, n int) (out []event.Value) {
		for range n {
			x := []float64{1e308, math.MaxFloat64, math.Ldexp(1, 1023)}[r.IntN(3)]
			out = append(out, float(x), float(x), float(-x), float(-x))
		}
		return out[:len(out)-r.IntN(3)]
	}},
	{"powers of two at the edges of two limbs", func(r *rand.Rand, n int) (out []event.Value) {
		at := r.IntN(1890) - 1000
		for range n {
			x := math.Ldexp(1, at+[]int{0, 62, 63, 64, 126, 127, 128}[r.IntN(7)]-r.IntN(4))
			out = append(out, float(x*float64(1-2*r.IntN(2))))
		}
		return out
	}},
	{"ties to even", func(r *rand.Rand, n int) (out []event.Value) {
		e := r.IntN(1900) - 950
		x := math.Ldexp(float64(1<<53-1-r.IntN(3)), e)
		out = append(out, float(x), float(math.Ldexp(1, e-1)))
		for range n / 4 {
			out = append(out, float(math.Ldexp(float64(r.IntN(3)-1), max(e-r.IntN(100), -1074))))
		}
		return out
	}},
	{"decimals", func(r *rand.Rand, n int) (out []event.Value) {
		for range n {
			out = append(out, float(float64(r.IntN(1e6)-3e5)/100))
		}
		return out
	}},
	{"integers, and now and then a fraction", func(r *rand.Rand, n int) (out []event.Value) {
		for range n {
			switch r.IntN(12) {
			case 0:
				out = append(out, float(float64(r.IntN(9))/4))
			case 1:
				out = append(out, integer([]int64{math.MaxInt64, math.MinInt64, 1<<53 + 1, -1<<53 - 1}[r.IntN(4)]))
			case 2:
				out = append(out, event.Value{Kind: event.Int, Big: true, Float: []float64{1 << 63, -1 << 63, 1e19}[r.IntN(3)]})
			default:
				out = append(out, integer((r.Int64()-r.Int64())>>r.IntN(63)))
			}
		}
		return out
	}},
	{"carries", func(r *rand.Rand, n int) (out []event.Value) {
		x := math.Float64frombits(r.Uint64()>>12 | uint64(r.IntN(2046))<<52)
		for range n * 3 {
			out = append(out, float(x))
		}
		return out
	}},
}

// restart moves a lane's only row into a table of its own, through its entry.
func restart(t testing.TB, table *Table) *Table {
	again := table.layout.NewTable()
	require.NoError(t, again.LoadEntry([]byte("k"), table.AppendEntry(nil, 0, 0)))
	return again
}

// Whatever the values, their order, how they are spread over lanes and where lanes restart: what is published is the exact
// result rounded once, and the merged entry holds the same bytes.
func TestFloatsAreExactAndOrderFree(t *testing.T) {
	const sets = 10_000
	l, err := NewLayout(floatSpec())
	require.NoError(t, err)
	spilled := 0
	for seed := range uint64(sets) {
		r := rand.New(rand.NewPCG(seed, 9))
		set := adversarialSets[seed%uint64(len(adversarialSets))]
		values := set.draw(r, 1+r.IntN(30))
		want := exactValues(values)
		var entry []byte
		for range 2 {
			r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
			lanes := make([]*Table, 1+r.IntN(4))
			for i := range lanes {
				lanes[i] = l.NewTable()
				lanes[i].Row([]byte("k"))
			}
			for i, v := range values {
				lane := r.IntN(len(lanes))
				lanes[lane].Add(0, &event.Event{Values: []event.Value{v}}, int64(i))
				if r.IntN(8) == 0 {
					lanes[lane] = restart(t, lanes[lane])
				}
			}
			merged := l.NewTable()
			for _, lane := range r.Perm(len(lanes)) {
				spilled += len(lanes[lane].blocks.chunks)
				require.NoError(t, merged.MergeEntry([]byte("k"), lanes[lane].AppendEntry(nil, 0, 0), int32(lane)))
			}
			require.Equal(t, want, string(merged.AppendValues(nil, 0)), "%s, seed %d: %v", set.name, seed, values)
			got := restart(t, merged).AppendEntry(nil, 0, int64(len(values)))
			if entry == nil {
				entry = got
			}
			require.Equal(t, entry, got, "%s, seed %d", set.name, seed)
		}
	}
	require.Greater(t, spilled, sets/10, "sums of many limbs were tested too")
}

// The cases that gave wrong values: whatever the order and the partitions.
func TestFloatCases(t *testing.T) {
	l, err := NewLayout(floatSpec())
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		values []event.Value
		want   string
	}{
		{"float-overflow", []event.Value{float(1e308), float(1e308), float(-1e308), float(-1e308)}, `{"sum":0,"avg":0,"min":-1e+308,"max":1e+308}`},
		{"float-cancel", []event.Value{float(1e100), float(1e50), integer(1), float(-1e50), float(-1e100)}, `{"sum":1,"avg":0.2,"min":-1e+100,"max":1e+100}`},
		{"bigint-default", []event.Value{integer(9007199254740993), integer(2), integer(1700000000123456789)},
			`{"sum":1709007199378197784,"avg":569669066459399230,"min":2,"max":1700000000123456789}`},
		{"a fraction comes", []event.Value{integer(9007199254740993), integer(1700000000123456789), float(0.25)},
			`{"sum":1709007199378197800,"avg":569669066459399230,"min":0.25,"max":1700000000123456789}`},
		{"the mean fits", []event.Value{float(math.MaxFloat64), float(math.MaxFloat64)},
			`{"sum":null,"avg":1.7976931348623157e+308,"min":1.7976931348623157e+308,"max":1.7976931348623157e+308}`},
		{"neighbours beyond 2^53", []event.Value{integer(1<<60 + 1), float(1 << 60), integer(1<<60 - 1)},
			`{"sum":3458764513820540928,"avg":1152921504606847000,"min":1152921504606846975,"max":1152921504606846977}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, exactValues(c.values))
			for order := range c.values {
				for lanes := 1; lanes <= len(c.values); lanes++ {
					merged := l.NewTable()
					for lane := range lanes {
						table := l.NewTable()
						table.Row([]byte("k"))
						for i := lane; i < len(c.values); i += lanes {
							table.Add(0, &event.Event{Values: []event.Value{c.values[(i+order)%len(c.values)]}}, int64(i))
						}
						require.NoError(t, merged.MergeEntry([]byte("k"), table.AppendEntry(nil, 0, 0), int32(lane)))
					}
					require.Equal(t, c.want, string(merged.AppendValues(nil, 0)), "from value %d over %d lanes", order, lanes)
				}
			}
		})
	}
}

// A sum takes no more than two limbs for the data that pipelines usually have, and columns grew by 8 bytes.
func TestBytesOfAColumn(t *testing.T) {
	for fn, want := range map[string]int{"sum": 16 + 8, "avg": 24 + 8, "min": 8 + 8, "max": 8 + 8} {
		l, err := NewLayout(oneField(fn))
		require.NoError(t, err)
		require.Equal(t, headerSize+want, l.RowBytes(), fn)
	}
	for name, values := range floatData() {
		table := newTable(t, oneField("sum"))
		row := table.Row([]byte("k"))
		for i := range 100 * len(values) {
			at := i % len(values)
			table.Add(row, &event.Event{Values: values[at : at+1]}, int64(i))
		}
		require.Equal(t, name == "spread", len(table.blocks.chunks) > 0, name)
		require.Less(t, table.blocks.bytes, 2048, name)
	}
}

// Limbs are counted, given back when an entry replaces them, and cost no allocation once there is room.
func TestLimbsAreReused(t *testing.T) {
	table := newTable(t, oneField("avg"))
	before := table.Bytes()
	row := table.Row([]byte("k"))
	wide := []event.Value{float(1e300), float(1e-300), float(1)}
	fold := func(v []event.Value) { table.Add(row, &event.Event{Values: v}, 0) }
	for i := range wide {
		fold(wide[i : i+1])
	}
	require.Greater(t, table.Bytes(), before+300)
	entry := table.AppendEntry(nil, row, 0)
	held := table.Bytes()
	for range 100 {
		require.NoError(t, table.LoadEntry([]byte("k"), entry))
		fold(wide[:1])
	}
	require.Equal(t, held, table.Bytes())

	narrow := one(t, "avg", "", float(0.5)).AppendEntry(nil, 0, 0)
	require.NoError(t, table.LoadEntry([]byte("k"), narrow))
	require.EqualValues(t, fewLimbs, table.rec(row)[headerSize+sumLimbs])

	values := floatData()["spread"]
	i, ev := 0, event.Event{}
	require.Zero(t, testing.AllocsPerRun(10*len(values), func() {
		ev.Values = values[i%len(values) : i%len(values)+1]
		table.Add(row, &ev, 0)
		i++
	}))
}

func TestNumbersCompareExactly(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	values := []event.Value{integer(0), float(0), float(math.Copysign(0, -1)), integer(math.MaxInt64), integer(math.MinInt64),
		float(1 << 63), float(-1 << 63), float(math.MaxFloat64), float(-math.MaxFloat64), float(5e-324), float(-5e-324), integer(-1), integer(1)}
	for range 50 {
		i := (r.Int64() - r.Int64()) >> r.IntN(63)
		values = append(values, integer(i), float(float64(i)), float(float64(i)/4), float(math.Nextafter(float64(i), 0)))
	}
	for _, a := range values {
		for _, b := range values {
			x, y, order := numberOf(&a), numberOf(&b), exactly(a).Cmp(exactly(b))
			require.Equal(t, order < 0, x.less(y), "%+v %+v", a, b)
			require.Equal(t, order == 0, x == y, "%+v %+v", a, b)
		}
	}
}

// Sums are those of math/big whatever the bits of the values, in both orders, and over a restart.
func FuzzExactSum(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\xf0\x7f"), uint8(0))
	for seed := range uint64(len(adversarialSets)) {
		var data []byte
		for _, v := range adversarialSets[seed].draw(rand.New(rand.NewPCG(seed, 11)), 6) {
			bits := math.Float64bits(v.Float)
			if v.Kind == event.Int && !v.Big {
				data, bits = append(data, 1), uint64(v.Int)
			} else {
				data = append(data, 0)
			}
			for i := range 8 {
				data = append(data, byte(bits>>(8*i)))
			}
		}
		f.Add(data, uint8(seed))
	}
	l, err := NewLayout(floatSpec())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		var values []event.Value
		for ; len(data) >= 9 && len(values) < 1000; data = data[9:] {
			bits := uint64(getInt(data[1:]))
			x := math.Float64frombits(bits)
			switch {
			case data[0]&1 == 1:
				values = append(values, integer(int64(bits)))
			case math.Abs(x) <= math.MaxFloat64:
				values = append(values, float(x))
			}
		}
		if len(values) == 0 {
			return
		}
		want := exactValues(values)
		forth, back := l.NewTable(), l.NewTable()
		forth.Row([]byte("k"))
		back.Row([]byte("k"))
		for i := range values {
			if i == int(cut)%len(values) {
				forth, back = restart(t, forth), restart(t, back)
			}
			forth.Add(0, &event.Event{Values: values[i : i+1]}, 0)
			at := len(values) - 1 - i
			back.Add(0, &event.Event{Values: values[at : at+1]}, 0)
		}
		require.Equal(t, want, string(forth.AppendValues(nil, 0)))
		require.Equal(t, want, string(back.AppendValues(nil, 0)))
		require.Equal(t, forth.AppendEntry(nil, 0, 0), back.AppendEntry(nil, 0, 0))
		require.Equal(t, want[len(`{"sum":`):][:4] == "null", forth.Overflow(0), strconv.Quote(want))
	})
}
