package oracle

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"
	"time"
)

// Options of a comparison.
type Options struct {
	Show int // differences to describe; 0: 20
}

// Diff is the outcome of a comparison.
type Diff struct {
	Expected, Actual          int // rows read
	Missing, Extra, Different int // rows
	Duplicate, Unsorted       int // rows of the actual side
	Examples                  []string
}

// Equal says that nothing differs.
func (d *Diff) Equal() bool {
	return d.Missing+d.Extra+d.Different+d.Duplicate+d.Unsorted == 0
}

// String describes the difference for a person.
func (d *Diff) String() string {
	if d.Equal() {
		return fmt.Sprintf("equal: %d rows", d.Expected)
	}
	return fmt.Sprintf("NOT equal: %d rows expected, %d found; %d missing, %d extra, %d different, %d twice, %d out of order\n%s",
		d.Expected, d.Actual, d.Missing, d.Extra, d.Different, d.Duplicate, d.Unsorted, strings.Join(d.Examples, "\n"))
}

type rows struct {
	byName map[string]map[string]any
	names  []string // in the order of the file
	places []where
}

// where is a row's place in the order of a results file.
type where struct {
	Window string          `json:"window"`
	Start  time.Time       `json:"start"`
	Key    json.RawMessage `json:"key"`
}

func (a where) compare(b where) int {
	return cmp.Or(strings.Compare(a.Window, b.Window), a.Start.Compare(b.Start), bytes.Compare(a.Key, b.Key))
}

// Compare compares two streams of JSON lines in everything but the revision. An error means that a stream could not
// be read, not that they differ.
func Compare(expected, actual io.Reader, opt Options) (*Diff, error) {
	if opt.Show == 0 {
		opt.Show = 20
	}
	d := &Diff{}
	say := func(format string, args ...any) {
		if len(d.Examples) < opt.Show {
			d.Examples = append(d.Examples, "  "+fmt.Sprintf(format, args...))
		}
	}
	want, err := readRows(expected, func(name string) {})
	if err != nil {
		return nil, fmt.Errorf("expected rows: %w", err)
	}
	got, err := readRows(actual, func(name string) {
		d.Duplicate++
		say("twice: %s", name)
	})
	if err != nil {
		return nil, fmt.Errorf("actual rows: %w", err)
	}
	d.Expected, d.Actual = len(want.names), len(got.names)
	for i := 1; i < len(got.places); i++ {
		if got.places[i].compare(got.places[i-1]) < 0 {
			d.Unsorted++
			say("out of order: %s", got.names[i])
		}
	}
	for _, name := range want.names {
		row, ok := got.byName[name]
		if !ok {
			d.Missing++
			say("missing: %s %s", name, encode(want.byName[name]["values"]))
			continue
		}
		if diffs := fields("", want.byName[name], row); len(diffs) > 0 {
			d.Different++
			say("differs: %s: %s", name, strings.Join(diffs, "; "))
		}
	}
	for _, name := range got.names {
		if _, ok := want.byName[name]; !ok {
			d.Extra++
			say("extra: %s %s", name, encode(got.byName[name]["values"]))
		}
	}
	return d, nil
}

func readRows(r io.Reader, twice func(name string)) (*rows, error) {
	out := &rows{byName: map[string]map[string]any{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.UseNumber()
		var row map[string]any
		if err := dec.Decode(&row); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(out.names)+1, err)
		}
		var at where
		if err := json.Unmarshal(lines.Bytes(), &at); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(out.names)+1, err)
		}
		delete(row, "revision")
		name := fmt.Sprintf("%v %v %s", row["window"], row["start"], encode(row["key"]))
		if _, ok := out.byName[name]; ok {
			twice(name)
		}
		out.byName[name] = row
		out.names = append(out.names, name)
		out.places = append(out.places, at)
	}
	return out, lines.Err()
}

// fields lists what differs between two values, by path.
func fields(path string, want, got any) []string {
	w, isObject := want.(map[string]any)
	g, ok := got.(map[string]any)
	if !isObject || !ok {
		if same(want, got) {
			return nil
		}
		return []string{fmt.Sprintf("%s: expected %s, found %s", strings.TrimPrefix(path, "."), encode(want), encode(got))}
	}
	names := map[string]bool{}
	for name := range w {
		names[name] = true
	}
	for name := range g {
		names[name] = true
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	var out []string
	for _, name := range sorted {
		_, inWant := w[name]
		_, inGot := g[name]
		switch {
		case !inGot:
			out = append(out, fmt.Sprintf("%s.%s is missing", strings.TrimPrefix(path, "."), name))
		case !inWant:
			out = append(out, fmt.Sprintf("%s.%s is extra: %s", strings.TrimPrefix(path, "."), name, encode(g[name])))
		default:
			out = append(out, fields(path+"."+name, w[name], g[name])...)
		}
	}
	return out
}

// same compares numbers by value: integers digit by digit, others as the nearest float64.
func same(want, got any) bool {
	w, ok := want.(json.Number)
	g, both := got.(json.Number)
	if !ok || !both || w == g {
		return reflect.DeepEqual(want, got)
	}
	if integer(w) && integer(g) {
		return false // equal integers are written equally
	}
	a, errA := w.Float64()
	b, errB := g.Float64()
	return errA == nil && errB == nil && a == b
}
