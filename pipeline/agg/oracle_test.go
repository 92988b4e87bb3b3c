package agg

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// allSpec has every function and type. Slots: i (integers), f (floats), v (any scalar).
func allSpec() *spec.Spec {
	s := &spec.Spec{Aggregates: []spec.Aggregate{{Name: "n", Func: "count"}}}
	for _, fn := range []string{"sum", "avg", "min", "max"} {
		s.Aggregates = append(s.Aggregates,
			spec.Aggregate{Name: fn + "_i", Func: fn, Field: "i", Type: "int"},
			spec.Aggregate{Name: fn + "_f", Func: fn, Field: "f", Type: "float"})
	}
	s.Aggregates = append(s.Aggregates,
		spec.Aggregate{Name: "first", Func: "first", Field: "v", Type: "any"},
		spec.Aggregate{Name: "last", Func: "last", Field: "v", Type: "string"})
	return s
}

// occurrence is an event of allSpec with its place in the log.
type occurrence struct {
	event.Event
	lane   int32
	offset int64
}

func integer(v int64) event.Value {
	return event.Value{Kind: event.Int, Int: v, Float: float64(v)}
}

func float(v float64) event.Value { return event.Value{Kind: event.Float, Float: v} }

func text(v string) event.Value { return event.Value{Kind: event.String, Str: []byte(v)} }

// later reports whether a comes after b by event time, lane, offset.
func later(a, b *occurrence) bool {
	switch {
	case a.Time != b.Time:
		return a.Time > b.Time
	case a.lane != b.lane:
		return a.lane > b.lane
	}
	return a.offset > b.offset
}

// naive computes the published values of one key's events by definition.
func naive(t testing.TB, events []*occurrence) string {
	t.Helper()
	sumI, sumF := new(big.Int), new(big.Rat)
	var ints []int64
	var floats []float64
	var first, last *occurrence
	for _, e := range events {
		if v := e.Values[0]; v.Kind != event.Null {
			ints = append(ints, v.Int)
			sumI.Add(sumI, big.NewInt(v.Int))
		}
		if v := e.Values[1]; v.Kind != event.Null {
			floats = append(floats, v.Float)
			sumF.Add(sumF, new(big.Rat).SetFloat64(v.Float))
		}
		if e.Values[2].Kind == event.Null {
			continue
		}
		if first == nil || later(first, e) {
			first = e
		}
		if last == nil || later(e, last) {
			last = e
		}
	}
	nearest := func(r *big.Rat) any { f, _ := r.Float64(); return f + 0 }
	digits := func(r *big.Rat) any {
		if r.IsInt() && r.Num().IsInt64() {
			return r.Num()
		}
		return nearest(r)
	}
	out := []any{"n", len(events), "sum_i", nil, "sum_f", digits(sumF), "avg_i", nil, "avg_f", nil,
		"min_i", nil, "min_f", nil, "max_i", nil, "max_f", nil, "first", scalarJSON(t, first), "last", scalarJSON(t, last)}
	if sumI.IsInt64() {
		out[3] = sumI.Int64()
	}
	if len(ints) > 0 {
		out[7] = nearest(new(big.Rat).SetFrac(sumI, big.NewInt(int64(len(ints)))))
		least, most := ints[0], ints[0]
		for _, v := range ints {
			least, most = min(least, v), max(most, v)
		}
		out[11], out[15] = least, most
	}
	if len(floats) > 0 {
		out[9] = nearest(new(big.Rat).Quo(sumF, new(big.Rat).SetInt64(int64(len(floats)))))
		least, most := floats[0], floats[0]
		for _, v := range floats {
			least, most = min(least, v), max(most, v)
		}
		out[13], out[17] = least+0, most+0
	}
	var fields []string
	for i := 0; i < len(out); i += 2 {
		fields = append(fields, marshal(t, out[i])+":"+marshal(t, out[i+1]))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func scalarJSON(t testing.TB, e *occurrence) any {
	if e == nil {
		return nil
	}
	switch v := e.Values[2]; {
	case v.Big:
		return json.RawMessage(v.Str)
	case v.Kind == event.Int:
		return v.Int
	case v.Kind == event.Float:
		return v.Float
	case v.Kind == event.Bool:
		return v.Int == 1
	default:
		return string(v.Str)
	}
}

func marshal(t testing.TB, v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(v))
	return strings.TrimSuffix(b.String(), "\n")
}
