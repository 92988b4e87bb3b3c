package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

const exactSpec = `
name: t
source: {topics: [in]}
event:
  key: [k]
  time: {field: t, unit: s}
aggregates:
  s: {func: sum, field: v}
  a: {func: avg, field: v}
  mn: {func: min, field: v}
  mx: {func: max, field: v}
  l: {func: last, field: v}
%swindows: [{name: w, size: 1h}]
results: {kafka: {topic: out}}
`

// Numbers of the default type are exact, and the same over any number of partitions, in whatever form a producer writes
// them and whoever else reads the field.
func TestNumbersAreExactOverAnyPartitions(t *testing.T) {
	for _, c := range []struct {
		name, more string
		numbers    []string
		want       string
	}{
		{"as integers and as floats", "  si: {func: sum, field: v, type: int}\n", []string{"9007199254740993", "2.0", "1700000000123456789"},
			`{"s":1709007199378197784,"a":569669066459399230,"mn":2,"mx":1700000000123456789,"l":1700000000123456789,"si":1709007199378197784}`},
		{"integers in other forms", "", []string{"9007199254740993.0", "20e-1", "1.700000000123456789e18"},
			`{"s":1709007199378197784,"a":569669066459399230,"mn":2,"mx":1700000000123456789,"l":1700000000123456789}`},
		{"a fraction comes", "", []string{"9007199254740993", "0.25", "1700000000123456789"},
			`{"s":1709007199378197800,"a":569669066459399230,"mn":0.25,"mx":1700000000123456789,"l":1700000000123456789}`},
		{"ordinary", "", []string{"24.67", "24.66", "24.67"}, `{"s":74,"a":24.666666666666668,"mn":24.66,"mx":24.67,"l":24.67}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := spec.Parse("t.yaml", fmt.Appendf(nil, exactSpec, c.more))
			require.NoError(t, err)
			var feed strings.Builder
			for i, v := range c.numbers {
				fmt.Fprintf(&feed, `{"k":"a","t":%d,"v":%s}`+"\n", 1700000000+i, v)
			}
			file := filepath.Join(t.TempDir(), "feed.jsonl")
			require.NoError(t, os.WriteFile(file, []byte(feed.String()), 0o600))
			for partitions := 1; partitions <= 5; partitions++ {
				p, err := preview(t.Context(), s, file, partitions)
				require.NoError(t, err)
				require.Len(t, p.rows, 1)
				require.Equal(t, c.want, string(p.rows[0].Values))
				require.False(t, p.rows[0].Overflow)
			}
		})
	}
}
