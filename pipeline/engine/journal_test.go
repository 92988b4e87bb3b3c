package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func TestOverflowIntoAJournalNeedsOne(t *testing.T) {
	s, err := spec.Parse("orders.yaml", []byte(`
name: orders
source: {topics: [orders]}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: minute, size: 1m}]
watermark: {out_of_orderness: 1s}
results: {kafka: {topic: orders.windows}}
lane: {overflow: journal}
`))
	require.NoError(t, err)
	_, err = Start(context.Background(), Config{Spec: s})
	require.ErrorIs(t, err, ErrNoJournal)
	require.ErrorContains(t, err, "--wal")
}
