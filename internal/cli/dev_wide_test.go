package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two texts of 600 kB under one key make a row that a topic does not take. The events that hold them are dead letters, the
// other key is published, and the drain ends.
func TestDevDrainsTextsThatFitNoRow(t *testing.T) {
	dir := t.TempDir()
	specFile, feed, out := filepath.Join(dir, "wide.yaml"), filepath.Join(dir, "wide.jsonl"), filepath.Join(dir, "out.jsonl")
	require.NoError(t, os.WriteFile(specFile, []byte(`
name: wide
source: {topics: [in]}
event:
  key: [k]
  time: {field: t, unit: s}
aggregates:
  n: {func: count}
  f: {func: first, field: v}
  l: {func: last, field: v}
windows: [{name: w, size: 1h}]
results: {kafka: {topic: out}}
late: {kafka: {topic: late}}
dead_letter: {kafka: {topic: dead}}
`), 0o600))
	var lines strings.Builder
	for i, c := range []string{"x", "y"} {
		fmt.Fprintf(&lines, `{"k":"a","t":%d,"v":"%s"}`+"\n", 1_700_000_000+i, strings.Repeat(c, 600_000))
	}
	lines.WriteString(`{"k":"b","t":1700000001,"v":"s"}` + "\n")
	require.NoError(t, os.WriteFile(feed, []byte(lines.String()), 0o600))

	code, shown, errs := millrace(t, "spec", "preview", specFile, "--feed", feed)
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, shown, "value_too_large (v takes more than the 517120 bytes of event.max_value_bytes)")

	code, _, errs = millrace(t, "dev", "--spec", specFile, "--feed", feed, "--drain", "--results", out, "--dir", filepath.Join(dir, "state"))
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, errs, "3 records read: 1 folded, 0 late, 0 filtered, 2 invalid, 0 too far ahead; 1 row")
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	var row struct {
		Key    map[string]string
		Values map[string]any
	}
	require.NoError(t, json.Unmarshal(text, &row))
	require.Equal(t, map[string]string{"k": "b"}, row.Key)
	require.Equal(t, map[string]any{"n": 1.0, "f": "s", "l": "s"}, row.Values)
}
