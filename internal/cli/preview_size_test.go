package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// No event makes a result row larger than the spec says any row can be: a window with one could never be published.
func TestNoRowIsLargerThanTheSpecSays(t *testing.T) {
	const aggregates = 256
	longest := strings.Repeat("6", 308)
	for _, c := range []struct{ aggregate, options, value string }{
		{"func: first, type: float", "", "-1" + longest},
		{"func: last, type: float", "max_value_bytes: 1", "-1" + longest},
		{"func: last", "max_value_bytes: 1", "-1.2345678901234567e-300"},
		{"func: last", "max_value_bytes: 1", "-9223372036854775808"},
		{"func: last", "max_value_bytes: 1", "false"},
		{"func: last", "max_value_bytes: 400", "-1" + longest},
		{"func: first, type: int", "", "-9223372036854775808"},
		{"func: sum", "", "-1.2345678901234567e-300"},
		{"func: last, type: string", "max_value_bytes: 602", `"` + strings.Repeat(`\u0000`, 100) + `"`},
		{"func: last, type: string", "max_value_bytes: 602", `"` + strings.Repeat(`\ud800`, 100) + `"`},
	} {
		t.Run(c.aggregate+" "+c.options+" "+c.value[:5], func(t *testing.T) {
			var b strings.Builder
			fmt.Fprintf(&b, "name: wide\nsource: {topics: [in]}\nevent:\n  key: [k]\n  time: {field: t, unit: s}\n  max_key_bytes: 1024\n  %s\naggregates:\n", c.options)
			for i := range aggregates {
				fmt.Fprintf(&b, "  a%d: {%s, field: v}\n", i, c.aggregate)
			}
			b.WriteString("windows: [{name: w, size: 1h}]\nresults: {kafka: {topic: out}}\n")
			s, err := spec.Parse("wide.yaml", []byte(b.String()))
			require.NoError(t, err)

			feed := filepath.Join(t.TempDir(), "feed.jsonl")
			record := fmt.Sprintf(`{"t":0,"k":"%s","v":%s}`, strings.Repeat(`\u0000`, 1024-3), c.value)
			require.NoError(t, os.WriteFile(feed, []byte(record+"\n"), 0o600))
			p, err := preview(t.Context(), s, feed, 1)
			require.NoError(t, err)
			require.Len(t, p.rows, 1, "%s", p.refused)
			row, err := json.Marshal(p.rows[0])
			require.NoError(t, err)
			const framing = 200 // of record and batch, and a header
			require.LessOrEqual(t, len(row)+len(p.rows[0].Key)+framing, s.RecordBytes())
		})
	}
}
