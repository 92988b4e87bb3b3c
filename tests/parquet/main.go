// Command parquet archives windows for readers other than Millrace's own to look at: it folds events that are hard to keep
// exactly, publishes them as rows of JSON, and archives the same rows. Beside each file it leaves what was published, which
// compare.py holds against what DuckDB and pandas read. Run it with `make test-parquet`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/archive"
	"millrace/pipeline/event"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/wal"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: parquet DIRECTORY")
		os.Exit(2)
	}
	if err := writeCases(context.Background(), os.Args[1], windows); err != nil {
		fmt.Fprintln(os.Stderr, "parquet:", err)
		os.Exit(1)
	}
}

// window is one archived window.
type window struct {
	name   string
	events int
	keys   int
}

var windows = []window{
	{name: "empty"},
	{name: "single", events: 1, keys: 1},
	{name: "few", events: 600, keys: 150},
	{name: "many", events: 150_000, keys: 100_000},
}

// writeCases writes, for each window, an archived file and NAME.jsonl with the published rows, and lists them in cases.json
// with the function and type of every value.
func writeCases(ctx context.Context, dir string, windows []window) error {
	s, err := everyFunction()
	if err != nil {
		return err
	}
	schema, err := archive.NewSchema(s)
	if err != nil {
		return err
	}
	type listed struct {
		File string `json:"file"`
		Rows string `json:"rows"`
	}
	var files []listed
	for i, w := range windows {
		contents, err := fold(s, w, rand.New(rand.NewPCG(uint64(i), 7)))
		if err != nil {
			return err
		}
		row := &ledger.Row{
			Version: ledger.RowVersion, Pipeline: s.Name, Window: "hourly", Start: 978310800_000 + int64(i)*3600_000,
			End: 978314400_000 + int64(i)*3600_000, Edition: ledger.Edition, Revision: i + 1, Algorithm: ledger.ChecksumAlgorithm,
		}
		if err := publish(filepath.Join(dir, w.name+".jsonl"), row, contents); err != nil {
			return err
		}
		file, err := archive.NewDir(wal.OS, dir).Write(ctx, schema, row, func(yield func(ledger.Content) error) error {
			for _, c := range contents {
				if err := yield(c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		files = append(files, listed{File: file.Name, Rows: w.name + ".jsonl"})
	}
	text, err := json.Marshal(map[string]any{"cases": files, "key": s.Event.Key, "aggregates": s.Aggregates})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cases.json"), text, 0o644)
}

// everyFunction is a spec with every function and type there is.
func everyFunction() (*spec.Spec, error) {
	var text strings.Builder
	text.WriteString(`
name: everything
source: {topics: [events]}
event: {key: [origin, flight.number, Start], time: {field: at, unit: ms}}
windows: [{name: hourly, size: 1h}]
results: {kafka: {topic: everything.windows}}
aggregates:
`)
	for _, f := range spec.Functions() {
		if f.Takes == "" {
			fmt.Fprintf(&text, "  %s: {func: %s}\n", f.Name, f.Name)
		}
		for _, typ := range f.Types {
			fmt.Fprintf(&text, "  %s_%s: {func: %s, field: %s, type: %s}\n", f.Name, typ, f.Name, typ, typ)
		}
	}
	text.WriteString("  Overflow: {func: last, field: bool, type: bool}\n")
	return spec.Parse("everything.yaml", []byte(text.String()))
}

// Values that a careless column would change.
var (
	integers = []string{
		"0", "-0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993", "-9007199254740993", "null",
	}
	floats = append([]string{
		"0.1", "-0.0", "1e-7", "5e-324", "1.7976931348623157e308", "-1.7976931348623157e308", "123456789012345678901234567890",
		"9223372036854775808", "0.30000000000000004", "1e21", "1e20",
	}, integers...)
	texts = []string{
		`""`, `"é😀"`, `"a,b}\"c"`, `"\u0000\ttab\n"`, `"\ud800"`, `"x\udfffy"`, `"null"`, `"NaN"`, `"1e5"`, `" "`, "null",
	}
	bools   = []string{"true", "false", "null"}
	anyOf   = slices.Concat(floats, texts, bools)
	origins = []string{`"ATL"`, `"1"`, "1", `"é"`, `"\ud83d"`, "true", `"true"`, "0.5", "1e400", `"a\"\\\n"`}
)

// fold decides what would be published of random events, sorted by key.
func fold(s *spec.Spec, w window, rnd *rand.Rand) ([]ledger.Content, error) {
	layout, err := agg.NewLayout(s)
	if err != nil {
		return nil, err
	}
	decoder, err := event.NewDecoder(s)
	if err != nil {
		return nil, err
	}
	table := layout.NewTable()
	pick := func(from []string) string { return from[rnd.IntN(len(from))] }
	for i := range w.events {
		key := i
		if i >= w.keys {
			key = rnd.IntN(w.keys)
		}
		text := fmt.Sprintf(`{"at":%d,"origin":%s,"flight":{"number":%d},"Start":"s","int":%s,"float":%s,"string":%s,"bool":%s,"any":%s}`,
			978310800_000+rnd.Int64N(3600_000), origins[key%len(origins)], key, pick(integers), pick(floats), pick(texts),
			pick(bools), pick(anyOf))
		var ev event.Event
		if err := decoder.Decode([]byte(text), &ev); err != nil {
			return nil, fmt.Errorf("event %s: %w", text, err)
		}
		table.Add(table.Row(ev.Key), &ev, int64(i))
	}
	contents := make([]ledger.Content, table.Len())
	for i := range contents {
		c, row := &contents[i], uint32(i)
		if c.Key, err = event.KeyJSON(s, table.Key(row)); err != nil {
			return nil, err
		}
		c.Values, c.Overflow = table.AppendValues(nil, row), table.Overflow(row)
	}
	slices.SortFunc(contents, func(a, b ledger.Content) int { return bytes.Compare(a.Key, b.Key) })
	return contents, nil
}

// publish writes rows as the result topic has them, and sums them up in the ledger row.
func publish(name string, row *ledger.Row, contents []ledger.Content) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var sum ledger.Checksum
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	var lines []byte
	for _, c := range contents {
		sum.AddContent(c)
		lines = append(prefix.Append(lines, row.Revision, c), '\n')
	}
	row.Keys, row.Checksum = sum.Rows(), sum.String()
	_, err = f.Write(lines)
	return err
}
