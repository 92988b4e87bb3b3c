package oracle

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// head is a spec whose windows, watermark and lateness each test appends. Times are in seconds.
const head = `
name: t
source: {topics: [in], format: json}
event: {key: [k], time: {field: t, unit: s}, max_future: 1h}
aggregates:
  n: {func: count}
  sum: {func: sum, field: v, type: int}
  avg: {func: avg, field: v}
  min: {func: min, field: v}
  max: {func: max, field: v}
  first: {func: first, field: s}
  last: {func: last, field: s}
`

const stamped = 1_000_000_000 // the records' own timestamp: 11 days after the epoch, in milliseconds

func run(t *testing.T, tail string, partitions int, lines ...string) (*Result, string) {
	t.Helper()
	s, err := ReadSpec([]byte(head + tail))
	require.NoError(t, err)
	res, err := Run(s, RoundRobin("in", Lines([]byte(strings.Join(lines, "\n")+"\n")), partitions, stamped))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, res.WriteJSON(&out))
	return res, out.String()
}

func TestTumbling(t *testing.T) {
	res, out := run(t, "windows: [{name: w, size: 10s}]\nwatermark: {out_of_orderness: 5s}\nallowed_lateness: 5s\n", 1,
		`{"t":1,"k":"a","v":3,"s":"x"}`,
		`{"t":9,"k":"a","v":-4,"s":"y"}`,
		`{"t":9,"k":"a","v":2,"s":"z"}`,   // the same instant: the higher offset is last
		`{"t":1,"k":"a","v":0,"s":"w"}`,   // first stays x
		`{"t":24,"k":"b","v":1,"s":"q"}`,  // watermark 19
		`{"t":2,"k":"a","v":100,"s":"u"}`, // 10+5 <= 19: late
		`{"t":10,"k":"b","v":7,"s":"r"}`,  // 20+5 > 19: in time
	)
	require.Equal(t, `{"pipeline":"t","window":"w","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:10Z","key":{"k":"a"},"values":{"n":4,"sum":1,"avg":0.25,"min":-4,"max":3,"first":"x","last":"z"}}
{"pipeline":"t","window":"w","start":"1970-01-01T00:00:10Z","end":"1970-01-01T00:00:20Z","key":{"k":"b"},"values":{"n":1,"sum":7,"avg":7,"min":7,"max":7,"first":"r","last":"r"}}
{"pipeline":"t","window":"w","start":"1970-01-01T00:00:20Z","end":"1970-01-01T00:00:30Z","key":{"k":"b"},"values":{"n":1,"sum":1,"avg":1,"min":1,"max":1,"first":"q","last":"q"}}
`, out)
	require.Equal(t, Counters{Read: 7, Late: 1, Folded: 6}, res.Totals())
	require.Equal(t, []Late{{"in", 0, 5, []string{"w/1970-01-01T00:00:00Z"}, true}}, res.Late)
	require.EqualValues(t, 19_000, res.Lanes[0].Watermark)
}

func TestLateExactlyAtTheDeadline(t *testing.T) {
	for last, late := range map[string]int64{"20": 1, "19": 0} { // end 10 + lateness 5 against watermark 15 and 14
		res, _ := run(t, "windows: [{name: w, size: 10s}]\nwatermark: {out_of_orderness: 5s}\nallowed_lateness: 5s\n", 1,
			`{"t":`+last+`,"k":"a","v":1,"s":"x"}`, `{"t":9,"k":"a","v":1,"s":"x"}`)
		require.Equal(t, late, res.Totals().Late, "after %s", last)
	}
}

func TestEachLaneHasItsOwnWatermark(t *testing.T) {
	lines := []string{
		`{"t":100,"k":"a","v":1,"s":"x"}`, `{"t":1,"k":"a","v":1,"s":"y"}`, // lane 0, lane 1
		`{"t":1,"k":"a","v":1,"s":"z"}`, `{"t":2,"k":"a","v":1,"s":"z"}`,
	}
	res, _ := run(t, "windows: [{name: w, size: 10s}]\n", 2, lines...)
	require.Equal(t, Counters{Read: 2, Late: 1, Folded: 1}, res.Lanes[0].Counters)
	require.Equal(t, Counters{Read: 2, Folded: 2}, res.Lanes[1].Counters)
	res, _ = run(t, "windows: [{name: w, size: 10s}]\n", 1, lines...)
	require.Equal(t, Counters{Read: 4, Late: 3, Folded: 1}, res.Totals())
}

func TestSlidingWithOffsetAndPartlyLate(t *testing.T) {
	res, out := run(t, "windows: [{name: s, size: 10s, slide: 5s, offset: 2s}]\n", 1,
		`{"t":11,"k":"a","v":1,"s":"x"}`, // windows 2..12 and 7..17, watermark 11 afterwards
		`{"t":13,"k":"a","v":1,"s":"x"}`, // windows 7..17 and 12..22
		`{"t":8,"k":"a","v":1,"s":"x"}`,  // 2..12 is late at watermark 13, 7..17 is not: folded once, missed once
		`{"t":1,"k":"a","v":1,"s":"x"}`,  // -8..2 and -3..7: late for both
	)
	var got []string
	for _, row := range res.Rows {
		values, _ := row.acc.values()
		got = append(got, stamp(row.Start)[11:19]+" "+values[1:6])
	}
	require.Equal(t, []string{`00:00:02 "n":1`, `00:00:07 "n":3`, `00:00:12 "n":1`}, got)
	require.Contains(t, out, `"start":"1970-01-01T00:00:02Z","end":"1970-01-01T00:00:12Z"`)
	require.Equal(t, Counters{Read: 4, Late: 1, Folded: 3}, res.Totals())
	require.Equal(t, []Late{
		{"in", 0, 2, []string{"s/1970-01-01T00:00:02Z"}, false},
		{"in", 0, 3, []string{"s/1969-12-31T23:59:57Z", "s/1969-12-31T23:59:52Z"}, true},
	}, res.Late)
}

func TestBadInput(t *testing.T) {
	res, _ := run(t, "windows: [{name: w, size: 10s}]\nwhere: v != 5\n", 1,
		`{"t":1,"k":"a","v":1,"s":"x"}`,
		``,
		`{"t":1,"k":"a","v":1,"s":"x"} x`,
		`[1]`,
		`null`,
		`{"k":"a","v":1,"s":"x"}`,
		`{"t":1,"v":1,"s":"x"}`,
		`{"t":1,"k":"","v":1,"s":"x"}`,
		`{"t":1,"k":"a","v":"1","s":"x"}`,
		`{"t":1,"k":"a","v":1.5,"s":"x"}`,
		`{"t":1,"k":"a","s":"x"}`,
		`{"t":1,"k":{"a":1},"v":1,"s":"x"}`,
		`{"t":"1","k":"a","v":1,"s":"x"}`,
		"{\"t\":1,\"k\":\"a\xff\",\"v\":1,\"s\":\"x\"}",
		`{"t":1003600,"k":"a","v":1,"s":"x"}`, // exactly max_future beyond the record's timestamp: accepted
		`{"t":1003601,"k":"a","v":1,"s":"x"}`, // a second more: ahead, and the watermark stays
		`{"t":1003600,"k":"a","v":1,"s":"x"}`,
		`{"t":1003601,"k":"a","v":5,"s":"x"}`, // too far ahead before it is filtered
		`{"t":1003599,"k":"a","v":5,"s":"x"}`,
	)
	require.Equal(t, Counters{Read: 19, Invalid: 13, Ahead: 2, Filtered: 1, Folded: 3}, res.Totals())
}

func TestFilteredAndLateEventsMoveTheWatermark(t *testing.T) {
	res, _ := run(t, "windows: [{name: w, size: 10s}]\nwhere: v > 0\n", 1,
		`{"t":30,"k":"a","v":0,"s":"x"}`, `{"t":1,"k":"a","v":1,"s":"x"}`)
	require.Equal(t, Counters{Read: 2, Filtered: 1, Late: 1}, res.Totals())
}

func TestOverflowIsNull(t *testing.T) {
	_, out := run(t, "windows: [{name: w, size: 10s}]\n", 1,
		`{"t":1,"k":"a","v":9223372036854775807,"s":1.50}`, `{"t":1,"k":"a","v":1,"s":true}`)
	require.Contains(t, out, `"n":2,"sum":null,"avg":4611686018427388000,`)
	require.Contains(t, out, `"first":1.5,"last":true},"overflow":true}`)
}

func TestNullsAreLeftOut(t *testing.T) {
	_, out := run(t, "windows: [{name: w, size: 10s}]\n", 1,
		`{"t":1,"k":"a","v":4,"s":null}`, `{"t":1,"k":"a","v":null,"s":"x"}`, `{"t":1,"k":"b","v":null,"s":null}`)
	require.Contains(t, out, `{"n":2,"sum":4,"avg":4,"min":4,"max":4,"first":"x","last":"x"}`)
	require.Contains(t, out, `{"n":1,"sum":0,"avg":null,"min":null,"max":null,"first":null,"last":null}`)
}

func TestCanonicalJSONSpec(t *testing.T) {
	s, err := ReadSpec([]byte(`{"name":"t","source":{"topics":["in"]},"event":{"key":["a.b"],"time":{"field":"t","unit":"rfc3339"}},
		"aggregates":[{"name":"z","func":"count"},{"name":"a","func":"max","field":"x"}],"windows":[{"name":"w","size":"1m0s","slide":"30s"},{"name":"d","size":"1d12h"}]}`))
	require.NoError(t, err)
	require.Equal(t, []Aggregate{{"z", "count", "", ""}, {"a", "max", "x", "float"}}, s.Aggregates)
	require.Equal(t, []Window{{"w", 60_000, 30_000, 0}, {"d", 129_600_000, 129_600_000, 0}}, s.Windows)
	lane := Lane{Topic: "in", Records: []Record{{Timestamp: stamped, Value: []byte(`{"a":{"b":7},"t":"1970-01-01T00:00:40.5Z","x":1}`)}}}
	res, err := Run(s, []Lane{lane})
	require.NoError(t, err)
	require.Len(t, res.Rows, 3)
	require.Equal(t, `{"a.b":7}`, res.Rows[0].Key)
}

func TestCompare(t *testing.T) {
	const a = `{"window":"w","start":"1970-01-01T00:00:00Z","key":{"k":"a"},"revision":1,"values":{"n":1,"f":0.1}}` + "\n"
	const b = `{"window":"w","start":"1970-01-01T00:00:00.5Z","key":{"k":"a"},"revision":1,"values":{"n":2,"f":0.1}}` + "\n"
	compare := func(want, got string) *Diff {
		d, err := Compare(strings.NewReader(want), strings.NewReader(got), Options{})
		require.NoError(t, err)
		return d
	}
	require.True(t, compare(a+b, a+strings.Replace(b, `"revision":1`, `"revision":9`, 1)).Equal())
	require.Equal(t, 1, compare(a+b, a).Missing)
	require.Equal(t, 1, compare(a, a+b).Extra)
	require.Equal(t, 1, compare(a, a+a).Duplicate)
	require.Equal(t, 1, compare(a+b, b+a).Unsorted)
	off := strings.Replace(a, "0.1", "0.10000000000000002", 1)
	require.Equal(t, `  differs: w 1970-01-01T00:00:00Z {"k":"a"}: values.f: expected 0.1, found 0.10000000000000002`, compare(a, off).Examples[0])
	require.Equal(t, 1, compare(a, strings.Replace(a, `"n":1`, `"n":2`, 1)).Different)
	require.Contains(t, compare(a, strings.Replace(a, `,"f":0.1`, ``, 1)).String(), "values.f is missing")
}

func TestRollups(t *testing.T) {
	// The last Sunday of March in Berlin, 28th in 1999, has 23 hours, from 922575600 to 922658400.
	s, err := ReadSpec([]byte(strings.Replace(head, "max_future: 1h", "max_future: 300000h", 1) + `windows: [{name: w, size: 1h}]
rollups:
  - {name: daily, from: w, calendar: day, timezone: Europe/Berlin}
  - {name: yearly, from: daily, calendar: year, timezone: Europe/Berlin}
`))
	require.NoError(t, err)
	lines := []string{
		`{"t":922575599,"k":"a","v":1,"s":"x"}`,
		`{"t":922575600,"k":"a","v":2,"s":"y"}`,
		`{"t":922658399,"k":"a","v":4,"s":"z"}`,
		`{"t":922575600,"k":"a","v":8,"s":"l"}`, // its hour has passed: it is late for the day, too
		`{"t":922658400,"k":"a","v":16,"s":"w"}`,
	}
	res, err := Run(s, RoundRobin("in", Lines([]byte(strings.Join(lines, "\n")+"\n")), 1, stamped))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, res.WriteJSON(&b))
	out := b.String()
	require.Contains(t, out, `"window":"daily","start":"1999-03-26T23:00:00Z","end":"1999-03-27T23:00:00Z","key":{"k":"a"},"values":{"n":1,"sum":1,`)
	require.Contains(t, out, `"window":"daily","start":"1999-03-27T23:00:00Z","end":"1999-03-28T22:00:00Z","key":{"k":"a"},"values":{"n":2,"sum":6,`)
	require.Contains(t, out, `"window":"daily","start":"1999-03-28T22:00:00Z","end":"1999-03-29T22:00:00Z","key":{"k":"a"},"values":{"n":1,"sum":16,`)
	require.Contains(t, out, `"window":"yearly","start":"1998-12-31T23:00:00Z","end":"1999-12-31T23:00:00Z","key":{"k":"a"},"values":{"n":4,"sum":23,`)
	require.Equal(t, int64(1), res.ChildLate["daily"][922_575_600_000])
	require.Equal(t, int64(1), res.ChildLate["yearly"][915_145_200_000])
}
