package oracle

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
)

// place orders events for first and last: by event time, then topic, partition and offset.
type place struct {
	time      int64
	topic     string
	partition int32
	offset    int64
}

func (p place) before(q place) bool {
	switch {
	case p.time != q.time:
		return p.time < q.time
	case p.topic != q.topic:
		return p.topic < q.topic
	case p.partition != q.partition:
		return p.partition < q.partition
	}
	return p.offset < q.offset
}

// exact is wide enough to add any float64 values without rounding.
const exact = 2300

// accumulator holds one window and key.
type accumulator struct {
	spec  *Spec
	count int64
	cols  []column
}

// column is one aggregate. sum, min and max are exact; which is the value first or last chose.
type column struct {
	n             int64 // values added; nulls are not
	sum, min, max *big.Float
	which         any
	at            place
}

func newAccumulator(s *Spec) *accumulator {
	return &accumulator{spec: s, cols: make([]column, len(s.Aggregates))}
}

func (a *accumulator) add(ev *event, at place) {
	a.count++
	for i, agg := range a.spec.Aggregates {
		c, v := &a.cols[i], any(nil)
		if agg.Field != "" {
			v = lookup(ev.fields, agg.Field)
		}
		if agg.Func == "count" || v == nil {
			continue
		}
		c.n++
		switch agg.Func {
		case "sum", "avg", "min", "max":
			c.number(number(v.(json.Number)))
		case "first":
			if c.n == 1 || at.before(c.at) {
				c.which, c.at = v, at
			}
		case "last":
			if c.n == 1 || c.at.before(at) {
				c.which, c.at = v, at
			}
		}
	}
}

func (c *column) number(n *big.Float) {
	if c.sum == nil {
		c.sum, c.min, c.max = new(big.Float).SetPrec(exact), n, n
	}
	c.sum.Add(c.sum, n)
	if n.Cmp(c.min) < 0 {
		c.min = n
	}
	if n.Cmp(c.max) > 0 {
		c.max = n
	}
}

// number is what a numeric aggregate takes a literal for: an integer within int64 as it is, however it is written, and
// every other number as the nearest float64.
func number(n json.Number) *big.Float {
	out := new(big.Float).SetPrec(exact)
	if r := rational(n); r.IsInt() && r.Num().IsInt64() {
		return out.SetInt(r.Num())
	}
	f, _ := n.Float64()
	return out.SetFloat64(f)
}

// values renders the published object. overflow says that an integer did not fit and was published as null.
func (a *accumulator) values() (object string, overflow bool) {
	parts := make([]string, len(a.cols))
	for i, agg := range a.spec.Aggregates {
		c := a.cols[i]
		var v any
		switch {
		case agg.Func == "count":
			v = a.count
		case c.n == 0 && agg.Func == "sum": // nothing but nulls adds up to nothing
			v = 0
		case c.n == 0: // and has no other value
		case agg.Func == "sum":
			v = publish(c.sum, agg.Type, &overflow)
		case agg.Func == "min":
			v = publish(c.min, agg.Type, &overflow)
		case agg.Func == "max":
			v = publish(c.max, agg.Type, &overflow)
		case agg.Func == "avg":
			v = c.mean()
		default:
			v = scalar(c.which)
		}
		parts[i] = encode(agg.Name) + ":" + encode(v)
	}
	return "{" + strings.Join(parts, ",") + "}", overflow
}

// mean is the float64 nearest to the exact quotient.
func (c *column) mean() float64 {
	sum, _ := c.sum.Rat(nil)
	f, _ := sum.Quo(sum, new(big.Rat).SetInt64(c.n)).Float64()
	return f + 0 // no negative zero
}

// publish renders an exact result: an integer within int64 with all its digits, everything else as the nearest float64.
// What does not fit the type is null.
func publish(n *big.Float, typ string, overflow *bool) any {
	if i, accuracy := n.Int64(); accuracy == big.Exact {
		return i
	}
	if f, _ := n.Float64(); typ != "int" && !math.IsInf(f, 0) {
		return f + 0 // no negative zero
	}
	*overflow = true
	return nil
}
