package cli

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
	"millrace/tests/long"
	"millrace/tests/oracle"
)

// TestPreviewEqualsOracle folds random records, many of them broken, late or odd, under random specs and compares what
// the real lanes and the real merge make of them with the naive computation.
func TestPreviewEqualsOracle(t *testing.T) {
	for seed := range long.Seeds(20, 60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			text := randomSpec(r)
			feed := randomFeed(r, 300+r.IntN(700))
			partitions := 1 + r.IntN(5)

			file := filepath.Join(t.TempDir(), "feed.jsonl")
			require.NoError(t, os.WriteFile(file, feed, 0o600))
			s, err := spec.Parse("random.yaml", []byte(text))
			require.NoError(t, err, text)
			got, err := preview(t.Context(), s, file, partitions)
			require.NoError(t, err)

			want, err := oracle.ReadSpec([]byte(text))
			require.NoError(t, err)
			res, err := oracle.Run(want, oracle.RoundRobin("in", oracle.Lines(feed), partitions, 2_000_000_000_000))
			require.NoError(t, err)
			c := res.Totals()
			require.Equal(t, c, oracle.Counters{Read: got.counters.Read, Invalid: got.counters.Invalid, Ahead: got.counters.Ahead,
				Filtered: got.counters.Filtered, Late: got.counters.Late, Folded: got.counters.Folded}, text)

			var expected, actual bytes.Buffer
			require.NoError(t, res.WriteJSON(&expected))
			require.NoError(t, writeRows(&actual, got.rows))
			diff, err := oracle.Compare(&expected, &actual, oracle.Options{})
			require.NoError(t, err)
			require.True(t, diff.Equal(), "%s\n%s", text, diff)
			require.Greater(t, c.Folded, c.Read/10, "the records are too bad to tell anything")
		})
	}
}

// A record that is not folded is named with its line and the reason, whether the spec has topics for such records or not.
func TestPreviewSaysWhyRecordsAreRefused(t *testing.T) {
	dir := t.TempDir()
	specFile, feed := filepath.Join(dir, "p.yaml"), filepath.Join(dir, "feed.jsonl")
	require.NoError(t, os.WriteFile(feed, []byte(`{"k":"a","t":1700000000,"v":1}
{"k":"a","t":1700000001,"v":"x"}
{"k":"a","t":1700007200,"v":1}
{"k":"a","t":1700000000,"v":1}
{"k":"a",
{"k":"a","t":9000000000,"v":1}
`+strings.Repeat("{}\n", 7)), 0o600))
	for _, sinks := range []string{"", "late: {kafka: {topic: late}}\ndead_letter: {kafka: {topic: dead}}\n"} {
		require.NoError(t, os.WriteFile(specFile, []byte(`
name: p
source: {topics: [in]}
event: {key: [k], time: {field: t, unit: s}}
aggregates: {s: {func: sum, field: v}}
windows: [{name: w, size: 1h}]
results: {kafka: {topic: out}}
`+sinks), 0o600))
		for _, partitions := range []string{"1", "3"} {
			args := []string{"spec", "preview", specFile, "--feed", feed, "--partitions", partitions}
			code, out, errs := millrace(t, args...)
			require.Equal(t, ExitOK, code, errs)
			for _, line := range []string{
				`  line 2: wrong_type (`, `  line 5: not_json (at byte 9): {"k":"a",`, `  line 6: too_far_ahead (event time 2255-`,
				"  line 7: missing_field (", "  line 11: missing_field (",
			} {
				require.Contains(t, out, "\n"+line)
			}
			require.NotContains(t, out, "line 12:", "only the first of each reason")
			if partitions == "1" {
				require.Contains(t, out, "\n  line 4: late (w@2023-11-14T22:00:00Z): ")
			}

			code, out, errs = millrace(t, append(args, "--json")...)
			require.Equal(t, ExitOK, code, errs)
			require.NotContains(t, out, "reason", "standard output has result rows only")
			require.Contains(t, errs, `"reason":"not_json","detail":"at byte 9","value":"{\"k\":\"a\","}`)
			if partitions == "3" {
				require.Contains(t, errs, `{"line":5,"partition":1,"offset":1,"reason":"not_json"`)
			}
		}
	}
}

func pick[T any](r *rand.Rand, items ...T) T { return items[r.IntN(len(items))] }

func randomSpec(r *rand.Rand) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
name: random
source: {topics: [in], format: json}
event: {key: %s, time: {field: t.at, unit: ms}, max_future: 1h, max_key_bytes: %d%s}
aggregates:
  n: {func: count}
  isum: {func: sum, field: i, type: int}
  favg: {func: avg, field: f}
  fsum: {func: sum, field: f}
  imin: {func: min, field: i, type: int}
  fmax: {func: max, field: f}
  fmin: {func: min, field: f}
  iavg: {func: avg, field: i, type: int}
  fst: {func: first, field: x}
  lst: {func: last, field: x}
  lst_s: {func: last, field: s, type: string}
windows:
  - {name: a, size: %s}
`, pick(r, "[k]", "[k, n.m]", "[n.m]"), pick(r, 1024, 8), pick(r, "", ", max_value_bytes: 12"), pick(r, "10s", "1m", "7s"))
	if r.IntN(3) > 0 {
		fmt.Fprintf(&b, "  - {name: b, size: 1m, slide: %s, offset: %s}\n", pick(r, "20s", "10s", "30s"), pick(r, "0s", "5s", "9s"))
	}
	if r.IntN(2) > 0 {
		b.WriteString("  - {name: c-long, size: 5m}\n")
	}
	fmt.Fprintf(&b, "watermark: {out_of_orderness: %s}\nallowed_lateness: %s\n", pick(r, "0s", "15s", "1m"), pick(r, "0s", "10s", "40s"))
	if r.IntN(2) > 0 {
		fmt.Fprintf(&b, "where: %s\n", pick(r, `i > -5 || s == "b"`, `n.m != 2`, `s in ["a", "b"]`, `f < 1.5`))
	}
	b.WriteString("results: {kafka: {topic: out}}\nlate: {kafka: {topic: late}}\ndead_letter: {kafka: {topic: dead}}\n")
	return b.String()
}

func randomFeed(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	clock := int64(1_000_000_000_000)
	for range n {
		clock += int64(r.IntN(2000))
		at := fmt.Sprint(clock - int64(r.IntN(pick(r, 1, 10_000, 90_000))))
		key, inner := pick(r, `"a"`, `"b"`, `"ü\n\""`, `"\u00e4"`, `17`), pick(r, "1", "2", `"1"`, "true")
		i, f := fmt.Sprint(r.IntN(20)-10), fmt.Sprint(r.NormFloat64())
		x, s := pick(r, `"x"`, "1", "2.5", "true", `"<&>"`, "-7", "123456789012345678901234567890"), pick(r, `"a"`, `"b"`, `"c\td"`)
		switch r.IntN(60) { // now and then something odd
		case 0:
			at = pick(r, `"1"`, "null", "1.5", "-3", "1e12", "99999999999999999999", "5000000000000")
		case 1:
			key = pick(r, `""`, "null", "{}", "[1]", `"`+strings.Repeat("k", 1100)+`"`, "1.50", "false", "1e3", "12345678901234567890",
				"1e30", "10e-1", "0.10000000000000001", "-2.50e-9", "1e400", "1e-400", "123456789012345678901.50", "1e21")
		case 2:
			i = pick(r, "null", `"1"`, "1.5", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e2", "3.0", "-0", "true")
		case 3:
			f = pick(r, "null", `"1"`, "1e290", "1e309", "-1e290", "5", "1E-3", "123456789012345678901234567890", "-0.0", "[]",
				"9007199254740993", "-1709007199378197784.0", "1e308", "-1e308", "5e-324", "17e17")
		case 4:
			x = pick(r, "null", "{}", "[]", "1e400", `"\ud83d\ude00"`, "1E2", "-0", "-0.0", "0.1e1")
		case 5:
			s = pick(r, "null", "1", "true", `""`)
		case 6:
			inner = pick(r, "null", `""`, "{}", "1.0")
		}
		line := fmt.Sprintf(`{"t":{"at":%s},"k":%s,"n":{"m":%s},"i":%s,"f":%s,"x":%s,"s":%s}`, at, key, inner, i, f, x, s)
		switch r.IntN(100) { // and sometimes it is broken as a whole
		case 0:
			line = pick(r, "", "{", "null", "[]", "7", `"text"`, line+line, line+" x", line[:len(line)/2])
		case 1:
			line = strings.Replace(line, pick(r, `"k"`, `"i"`, `"x"`, `"t"`, `"m"`, `"at"`), `"zz"`, 1)
		case 2:
			line = " \t" + strings.ReplaceAll(line, ",", " ,\t") + " \r"
		case 3:
			line = strings.Replace(line, "{", `{"k":"shadowed","i":true,"t":7,`, 1) // the later field counts
		case 4:
			line = strings.Replace(line, "{", `{"\u006b":"z","extra":{"deep":[1,{"a":null}]},`, 1)
		case 5:
			line = strings.Replace(line, "{", `{"n":{"m":"shadowed"},`, 1)
		case 6:
			line = line[:len(line)-1] + `,"n":{"z":1}}` // and the whole of it: there is no n.m
		case 7:
			line = strings.Replace(line, `"s":`, "\"bad\xff\":1,\"s\":", 1)
		}
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}
