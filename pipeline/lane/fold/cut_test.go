package fold

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// No call is larger than Redis takes within its timeout, however large the entries are, and nothing is left out.
func TestCallsAreCutByBytes(t *testing.T) {
	s, err := spec.Parse("wide.yaml", []byte(`
name: wide
source: {topics: [in]}
event: {key: [k], time: {field: t, unit: ms}, max_value_bytes: 3MiB}
aggregates: {l: {func: last, field: v}}
windows: [{name: w, size: 1h}]
results: {kafka: {topic: out}}
lane: {chunk_fields: 50}
`))
	require.NoError(t, err)
	p, err := Compile(s)
	require.NoError(t, err)
	for name, size := range map[string]func(i int) int{
		"600 of 100 kB":        func(int) int { return 100_000 },
		"many small":           func(int) int { return 9 },
		"one of 2 MB between":  func(i int) int { return map[bool]int{true: 2_000_000, false: 3000}[i == 300] },
		"large and small ones": func(i int) int { return map[bool]int{true: 700_000, false: 10}[i%7 == 0] },
	} {
		t.Run(name, func(t *testing.T) {
			const keys = 600
			state := NewState(p, testLane, "id", 0, store.Cursor{})
			var records []source.Record
			for i := range keys {
				records = append(records, record(int64(i), fmt.Sprintf(`{"k":"k%d","t":%d,"v":"%s"}`, i, kafkaTime, strings.Repeat("v", size(i)))))
			}
			state.Fold(batch(records...))
			require.EqualValues(t, keys, state.Counters().Folded)
			var c Commit
			state.Snapshot(&c, Control{SealBefore: none, DropBefore: none, IdleAt: store.NotIdle})
			entries, at := 0, store.Cursor{}
			for i, call := range c.Calls {
				require.Equal(t, at, call.Prev)
				at = call.Next
				n, bytes := 0, 0
				for _, w := range call.Writes {
					n += len(w.Fields) / 2
					for _, f := range w.Fields {
						bytes += len(f)
					}
				}
				entries += n
				require.LessOrEqual(t, n, 50)
				require.True(t, bytes <= callBytes || n == 1, "call %d has %d entries of %d bytes", i, n, bytes)
			}
			require.Equal(t, keys, entries)
			require.NotNil(t, c.Calls[len(c.Calls)-1].Meta)
			require.LessOrEqual(t, len(c.Calls), c.Entries/50+2*c.Bytes/callBytes+2, "calls are not filled")
		})
	}
}
