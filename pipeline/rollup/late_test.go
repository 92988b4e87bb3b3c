package rollup

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

func lateHeaders(windows string) []source.Header {
	return []source.Header{
		{Key: "mr-reason", Value: []byte("late_for_some")}, {Key: "mr-topic", Value: []byte("orders")}, {Key: "mr-partition", Value: []byte("3")},
		{Key: "mr-offset", Value: []byte("41")}, {Key: "mr-windows", Value: []byte(windows)},
	}
}

func TestParseLate(t *testing.T) {
	event := func(family string, start int64) LateEvent {
		return LateEvent{Topic: "orders", Partition: 3, Offset: 41, Missed: ledger.WindowID{Window: family, Start: start}}
	}
	require.Equal(t, []LateEvent{event("minutely", 60_000), event("by-hour.1", 0)},
		ParseLate(lateHeaders("minutely@1970-01-01T00:01:00Z,by-hour.1@1970-01-01T00:00:00Z")))
	require.Equal(t, []LateEvent{event("minutely", 60_000)}, ParseLate(lateHeaders("minutely@1970-01-01T00:01:00Z,...")), "there were more")
	require.Empty(t, ParseLate(lateHeaders("minutely@yesterday")))
	require.Empty(t, ParseLate(lateHeaders("w")[:4]), "no lane wrote it")
	foreign := lateHeaders("minutely@1970-01-01T00:01:00Z")
	foreign[3].Value = []byte("many")
	require.Empty(t, ParseLate(foreign))
}

func TestLateEventsCountOnceForEachWindow(t *testing.T) {
	counts, err := countLate(t.Context(), func(_ context.Context, fn func(LateEvent) error) error {
		for offset, start := range []int64{0, 60, 60, 120} {
			for range 2 { // the commit was repeated
				for _, family := range []string{"a", "b"} {
					if err := fn(LateEvent{Topic: "t", Offset: int64(offset), Missed: ledger.WindowID{Window: family, Start: start}}); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, int64(3), counts.within("a", 0, 120))
	require.Equal(t, int64(3), counts.within("b", 60, 121))
	require.Zero(t, counts.within("a", 1, 60))
	require.Zero(t, counts.within("c", 0, 1000))
	none, err := countLate(t.Context(), nil)
	require.NoError(t, err)
	require.Zero(t, none.within("a", 0, 1000))
}
