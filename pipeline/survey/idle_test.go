package survey

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

func TestEndsCountAsLongAsTheyAreTrusted(t *testing.T) {
	now := time.Unix(1000, 0)
	a := NewAsked(8*time.Second, func() time.Time { return now })
	lane := store.LaneID{Pipeline: "p", Topic: "t"}
	note := func(wait time.Duration, id string, end int64) int64 {
		now = now.Add(wait)
		return a.note(lane, id, end)
	}
	require.Equal(t, int64(10), note(0, "a", 10))
	require.Equal(t, int64(10), note(time.Second, "a", 20))
	require.Equal(t, int64(10), note(7*time.Second, "a", 30), "as old as it may be")
	require.Equal(t, int64(20), note(time.Millisecond, "a", 30), "the first is too old")
	require.Equal(t, int64(30), note(7*time.Second, "a", 30), "the end that stands still is asked for again and again")
	require.Equal(t, int64(30), note(8*time.Second, "a", 30))
	require.Equal(t, int64(31), note(time.Second, "b", 31), "another log")
	require.Equal(t, int64(5), note(time.Second, "b", 5), "a log that was cut")
	require.Equal(t, int64(5), note(0, "b", 90))
	require.Equal(t, int64(100), note(time.Hour, "b", 100), "a closer that was frozen")
	require.Equal(t, int64(7), a.note(store.LaneID{Pipeline: "p", Topic: "u"}, "a", 7))
	require.Equal(t, int64(7), (*Asked)(nil).note(lane, "a", 7))
}

func TestEndsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	a := NewAsked(8*time.Second, func() time.Time { return now })
	lane := store.LaneID{Pipeline: "p", Topic: "t"}
	for i := range int64(10_000) {
		now = now.Add(time.Millisecond)
		low := a.note(lane, "a", i)
		require.LessOrEqual(t, len(a.ends[lane]), keptEnds+1)
		require.LessOrEqual(t, low, i)
		require.Greater(t, low, i-8_001)
	}
}
