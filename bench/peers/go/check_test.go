package main

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rightRows returns every row of the truth, as Millrace or as a peer writes it.
func rightRows(c *checker, millrace bool) (rows []string) {
	for i, r := range c.want.rows {
		if r.Count == 0 {
			continue
		}
		start := c.want.first + int64(i)/c.w.Keys*c.w.Slide
		name := c.w.keyName(int64(i) % c.w.Keys)
		if millrace {
			rows = append(rows, fmt.Sprintf(`{"pipeline":"p","window":"w","start":"%s","end":"2026-01-05T00:00:00Z","key":{"user":"%s"},`+
				`"revision":1,"values":{"count":%d,"sum":%d,"min":%d,"max":%d}}`,
				time.UnixMilli(start).UTC().Format(time.RFC3339), name, r.Count, r.Sum, r.Min, r.Max))
			continue
		}
		rows = append(rows, fmt.Sprintf(`{"start":%d,"user":"%s","count":%d,"sum":%d,"min":%d,"max":%d}`,
			start, name, r.Count, r.Sum, r.Min, r.Max))
	}
	return rows
}

func TestCheckerFindsWhatIsWrong(t *testing.T) {
	w := shrink(workload(t, "hopping"))
	for _, millrace := range []bool{false, true} {
		rows := rightRows(newChecker(w), millrace)
		n := int64(len(rows))
		wrong := `{"start":1767571200000,"user":"user-1000000000","count":1,"sum":7,"min":7,"max":7}`
		for name, test := range map[string]struct {
			rows []string
			want verdict
			ok   bool
		}{
			"all":          {rows, verdict{Expected: n, Rows: n}, true},
			"one missing":  {rows[1:], verdict{Expected: n, Rows: n - 1, Missing: 1}, false},
			"one twice":    {append([]string{rows[0]}, rows...), verdict{Expected: n, Rows: n, Revised: 1}, true},
			"one replaced": {append([]string{wrong}, rows...), verdict{Expected: n, Rows: n, Revised: 1}, true},
			"one wrong":    {append(rows[:n:n], wrong), verdict{Expected: n, Rows: n - 1, Wrong: 1, Revised: 1}, false},
			"no such key": {append(rows[:n:n], `{"start":1767571200000,"user":"user-7","count":1,"sum":1,"min":1,"max":1}`),
				verdict{Expected: n, Rows: n, Strange: 1}, true},
			"no such window": {append(rows[:n:n], `{"start":1767571200001,"user":"user-1000000001","count":1,"sum":1,"min":1,"max":1}`),
				verdict{Expected: n, Rows: n, Strange: 1}, true},
			"no row": {append(rows[:n:n], `{"start":1767571200000,"count":1}`), verdict{Expected: n, Rows: n, Strange: 1}, true},
			"closing": {append(rows[:n:n], `{"start":1767571200000,"user":"closing-0","count":1,"sum":1,"min":1,"max":1}`),
				verdict{Expected: n, Rows: n}, true},
		} {
			t.Run(fmt.Sprintf("%s/millrace=%v", name, millrace), func(t *testing.T) {
				c := newChecker(w)
				for _, r := range test.rows {
					c.add([]byte(r))
				}
				require.Equal(t, test.want, c.verdict(io.Discard))
				require.Equal(t, test.ok, c.complete())
			})
		}
	}
}
