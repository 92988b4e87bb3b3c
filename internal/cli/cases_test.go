package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// cases are inputs under testdata/cases that once gave a wrong, missing or silent answer. What a case gives is the same
// for every number of partitions.
var cases = []struct {
	name    string
	refused string            // what spec check says of the spec, behind its file and place
	rows    map[string]string // published values by key
	letters map[string]int    // records set aside, by reason
}{
	{
		name: "tz",
		refused: `where: "date(d).Local().Hour() < 12" uses date(), which gives a time, which depends on the time zone of the worker ` +
			`(at 1:1 of the expression); want times compared as the event has them, as numbers or as texts: at >= "2024-01-01T00:00:00Z"`,
	},
	{
		name:    "arr2",
		refused: `aggregates.s.field: "items[0].p" names an element of a list, which a path cannot reach; want a field name`,
	},
	{
		name:    "where-wraps",
		letters: map[string]int{"filter_error (where: 9223372036854775807 * 4 is beyond int64)": 1},
	},
	{
		name:    "where-compares",
		rows:    map[string]string{`{"k":"a"}`: `{"n":3}`},
		letters: map[string]int{"filter_error (where: division by zero)": 1},
	},
	{
		name: "bigint-default",
		rows: map[string]string{`{"k":"a"}`: `{"s":1709007199378197784,"si":1709007199378197784,"mx":1700000000123456789,` +
			`"mxi":1700000000123456789,"l":1700000000123456789,"a":569669066459399230,"ai":569669066459399230}`},
	},
	{
		name: "float-overflow",
		rows: map[string]string{`{"k":"a"}`: `{"s":0,"a":0}`},
	},
	{
		name: "float-cancel",
		rows: map[string]string{`{"k":"a"}`: `{"s":1,"a":0.2}`},
	},
	{
		name: "key-numbers",
		rows: map[string]string{
			`{"k":10}`: `{"n":3}`, `{"k":"10"}`: `{"n":1}`, `{"k":0.1}`: `{"n":1}`, `{"k":0.10000000000000001}`: `{"n":1}`,
			`{"k":1e+400}`: `{"n":2}`, `{"k":1000000000000000000000}`: `{"n":2}`, `{"k":0}`: `{"n":2}`,
			`{"k":9007199254740993.5}`: `{"n":1}`, `{"k":9007199254740993.25}`: `{"n":1}`, `{"k":1e-400}`: `{"n":1}`,
			`{"k":1e+999999999}`: `{"n":1}`,
		},
		letters: map[string]int{"number_range (k is 1e1000000000000000000; want a number whose exponent has up to 18 digits)": 1},
	},
	{
		name: "key-surrogates",
		rows: map[string]string{
			`{"k":"\ud800"}`: `{"n":2,"f":"\ud800","l":"\ud800"}`, `{"k":"\ud801"}`: `{"n":1,"f":"\ud801","l":"\ud801"}`,
			"{\"k\":\"\ufffd\"}": "{\"n\":1,\"f\":\"\ufffd\",\"l\":\"\ufffd\"}", `{"k":"😀"}`: `{"n":2,"f":"😀","l":"😀"}`,
			`{"k":"\u0000"}`: `{"n":1,"f":"\u0000","l":"\u0000"}`, "{\"k\":\"\u00e9\"}": "{\"n\":1,\"f\":\"\u00e9\",\"l\":\"\u00e9\"}",
			"{\"k\":\"e\u0301\"}": "{\"n\":1,\"f\":\"e\u0301\",\"l\":\"e\u0301\"}",
		},
	},
}

func TestCases(t *testing.T) {
	for _, c := range cases {
		for _, partitions := range []int{1, 2, 4} {
			t.Run(fmt.Sprintf("%s/%d", c.name, partitions), func(t *testing.T) {
				file := "testdata/cases/" + c.name
				args := []string{"spec", "preview", file + ".yaml", "--feed", file + ".jsonl", "--partitions", fmt.Sprint(partitions)}
				code, out, errs := millrace(t, append(args, "--json")...)
				if c.refused != "" {
					require.Equal(t, ExitUsage, code)
					var f failure
					require.NoError(t, json.Unmarshal([]byte(errs), &f))
					require.Contains(t, f.Error, c.refused)
					return
				}
				require.Zero(t, code, errs)
				rows := map[string]string{}
				for _, object := range jsonList(t, out) {
					var row struct{ Key, Values json.RawMessage }
					require.NoError(t, json.Unmarshal(object, &row), string(object))
					require.NotContains(t, rows, string(row.Key), "a key has one row")
					rows[string(row.Key)] = string(row.Values)
				}
				want := c.rows
				if want == nil {
					want = map[string]string{}
				}
				require.Equal(t, want, rows)

				code, out, errs = millrace(t, append(args, "--rows", "0")...)
				require.Zero(t, code, errs)
				for reason, records := range c.letters {
					require.Equal(t, records, strings.Count(out, ": "+reason+": "), out)
				}
			})
		}
	}
}
