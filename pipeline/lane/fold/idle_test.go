package fold

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

// A lane that has not read everything below the end that the broker named adopts no seal, and one that has read
// something since that could move its watermark does not either.
func TestSealsWaitForTheEndThatWasAsked(t *testing.T) {
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", kafkaTime-3_600_000, 1), record(1, "no event"), record(2, "no event")))
	adopt := func(idleAt int64) {
		s.Snapshot(&Commit{}, Control{IdleAt: idleAt, SealBefore: kafkaTime, DropBefore: none})
	}
	adopt(4)
	require.Equal(t, int64(none), s.sealed, "the end is not reached")
	adopt(0)
	require.Equal(t, int64(none), s.sealed, "the end lies before what moved the watermark")
	require.Equal(t, int64(store.NotIdle), s.idleEnd)
	adopt(1)
	require.Equal(t, int64(kafkaTime), s.sealed)
	require.Equal(t, int64(1), s.idleEnd)
	s.Fold(batch(record(3, "no event")))
	require.Equal(t, int64(1), s.idleEnd)
	s.Fold(batch(eventAt(4, "a", kafkaTime-3_600_000, 1)))
	require.Equal(t, int64(store.NotIdle), s.idleEnd)
}
