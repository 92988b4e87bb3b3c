package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func TestBenchLane(t *testing.T) {
	s, err := spec.Parse("bench.yaml", []byte(benchSpec("bench")))
	require.NoError(t, err)
	allocs, ns, err := benchLane(s, newBenchSource(benchLoad{records: 100_000, keys: 10_000, partitions: 1}))
	require.NoError(t, err)
	require.Positive(t, ns)
	require.Less(t, allocs, 0.01)
}
