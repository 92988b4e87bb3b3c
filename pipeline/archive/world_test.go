package archive

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/wal"
)

// everything has every function with every type, and names of columns that collide.
const everything = `
name: flights
source: {topics: [flights]}
event:
  key: [origin, flight.number, Start]
  time: {field: at, unit: ms}
aggregates:
  events: {func: count}
  sum_i: {func: sum, field: i, type: int}
  sum_f: {func: sum, field: f}
  avg_i: {func: avg, field: i, type: int}
  avg_f: {func: avg, field: f}
  min_i: {func: min, field: i, type: int}
  min_f: {func: min, field: f}
  max_i: {func: max, field: i, type: int}
  max_f: {func: max, field: f}
  first_any: {func: first, field: a}
  first_i: {func: first, field: i, type: int}
  first_f: {func: first, field: f, type: float}
  first_s: {func: first, field: s, type: string}
  first_b: {func: first, field: b, type: bool}
  last_any: {func: last, field: a}
  last_i: {func: last, field: i, type: int}
  last_f: {func: last, field: f, type: float}
  last_s: {func: last, field: s, type: string}
  Overflow: {func: last, field: b, type: bool}
windows: [{name: hourly, size: 1h}]
results: {kafka: {topic: flights.windows}}
`

func parseSpec(t testing.TB, text string) *spec.Spec {
	s, err := spec.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	return s
}

func schemaOf(t testing.TB, s *spec.Spec) *Schema {
	schema, err := NewSchema(s)
	require.NoError(t, err)
	return schema
}

// object writes the JSON object of a spec's aggregates.
func object(s *spec.Spec, values ...string) []byte {
	var members []string
	for i, a := range s.Aggregates {
		members = append(members, strconv.Quote(a.Name)+":"+values[i])
	}
	return []byte("{" + strings.Join(members, ",") + "}")
}

// hardContents are rows with the values that a careless column would change.
func hardContents(s *spec.Spec) []ledger.Content {
	row := func(origin, number, start string, overflow bool, values string) ledger.Content {
		return ledger.Content{
			Key:      fmt.Appendf(nil, `{"origin":%s,"flight.number":%s,"Start":%s}`, origin, number, start),
			Values:   object(s, strings.Fields(values)...),
			Overflow: overflow,
		}
	}
	nulls := "1" + strings.Repeat(" null", len(s.Aggregates)-1)
	const (
		least, most = "-9223372036854775808", "9223372036854775807"
		beyond      = "123456789012345678901234567890"
		fine        = "9007199254740993" // not a float64
	)
	return []ledger.Content{
		row(`"ATL"`, `10`, `true`, false, nulls),
		row(`"ATL"`, `"10"`, `"true"`, true, nulls),
		row(`"a\"b\\c\u0001\n\ud800é😀, }"`, `1e+400`, `-0.5`, false, nulls),
		row(`"1"`, beyond, `false`, false, strings.Join([]string{
			most, least, fine, "0.1", "1e-7", least, fine, most, "-1.5e+300", `"a,b}\"c"`, beyond, beyond, `"a,\"b}"`, "true",
			"false", "-" + beyond, "5e-324", `""`, "false",
		}, " ")),
		row(`"2"`, `0`, `"e"`, false, strings.Join([]string{
			"1", "0", "0", "-0", "1.7976931348623157e+308", "0", "-0.1", "0", "1e+21", "17", "-7", "0.30000000000000004",
			`"\u0000\ttab"`, "false", fine, fine, fine, `"\ud83d"`, "true",
		}, " ")),
		row(`"3"`, `0`, `"é"`, false, strings.Join([]string{
			"1", "1", "1", "1", "1", "1", "1", "1", "1", "1e-7", "1", "1", `"\ud800"`, "false", `"\udfff"`, "1", "1",
			`"null"`, "null",
		}, " ")),
	}
}

// rowOf is the ledger row of contents.
func rowOf(contents []ledger.Content) *ledger.Row {
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: "flights", Window: "hourly", Start: 978310800_000, End: 978314400_000,
		Edition: ledger.Edition, Revision: 2, Final: true, Algorithm: ledger.ChecksumAlgorithm,
	}
	var sum ledger.Checksum
	for _, c := range contents {
		sum.AddContent(c)
	}
	row.Keys, row.Checksum = sum.Rows(), sum.String()
	return row
}

func passing(contents []ledger.Content) Contents {
	return func(yield func(ledger.Content) error) error {
		for _, c := range contents {
			if err := yield(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func readAll(t testing.TB, d *Dir, name string) []ledger.Content {
	var all []ledger.Content
	_, err := d.Read(t.Context(), name, func(c ledger.Content) error {
		c.Key, c.Values = append([]byte(nil), c.Key...), append([]byte(nil), c.Values...)
		all = append(all, c)
		return nil
	})
	require.NoError(t, err)
	return all
}

// written archives contents below a directory of the test.
func written(t testing.TB, s *Schema, contents []ledger.Content) (*Dir, File, *ledger.Row) {
	d, row := NewDir(wal.OS, t.TempDir()), rowOf(contents)
	file, err := d.Write(context.WithoutCancel(t.Context()), s, row, passing(contents))
	require.NoError(t, err)
	return d, file, row
}
