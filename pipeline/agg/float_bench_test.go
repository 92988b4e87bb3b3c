package agg

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// floatData is what the benchmarks of float columns fold: prices, sensor readings around zero, integers, and values whose
// exponents have nothing to do with each other.
func floatData() map[string][]event.Value {
	r := rand.New(rand.NewPCG(8, 8))
	data := map[string][]event.Value{}
	for range 4096 {
		data["prices"] = append(data["prices"], float(math.Round(math.Exp(4+r.NormFloat64())*100)/100))
		data["normal"] = append(data["normal"], float(r.NormFloat64()))
		data["integers"] = append(data["integers"], integer(r.Int64N(1000)-20))
		data["spread"] = append(data["spread"], float(math.Ldexp(r.Float64()-0.5, r.IntN(2000)-1000)))
	}
	return data
}

func oneField(fn string) *spec.Spec {
	return &spec.Spec{Aggregates: []spec.Aggregate{{Name: "a", Func: fn, Field: "x"}}}
}

func BenchmarkFloat(b *testing.B) {
	for _, name := range []string{"prices", "normal", "integers", "spread"} {
		values := floatData()[name]
		for _, fn := range []string{"sum", "avg", "min"} {
			b.Run(fmt.Sprintf("%s/%s/fold", fn, name), func(b *testing.B) {
				t := newTable(b, oneField(fn))
				rows := [16]uint32{}
				for i := range rows {
					rows[i] = t.Row([]byte{byte(i)})
				}
				ev := event.Event{}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					ev.Values = values[i&4095 : i&4095+1]
					t.Add(rows[i&15], &ev, int64(i))
					i++
				}
			})
		}
		for _, do := range []string{"append", "merge", "values"} {
			b.Run(fmt.Sprintf("sum/%s/%s", name, do), func(b *testing.B) {
				t, into := newTable(b, oneField("sum")), newTable(b, oneField("sum"))
				key := []byte("k")
				row := t.Row(key)
				for i := range values {
					t.Add(row, &event.Event{Values: values[i : i+1]}, int64(i))
				}
				out := t.AppendEntry(nil, row, 1)
				entry := append([]byte(nil), out...)
				b.ReportAllocs()
				for b.Loop() {
					switch do {
					case "append":
						out = t.AppendEntry(out[:0], row, 1)
					case "merge":
						_ = into.MergeEntry(key, entry, 1)
					default:
						out = t.AppendValues(out[:0], row)
					}
				}
				b.ReportMetric(float64(len(entry)), "entry-bytes")
			})
		}
	}
}
