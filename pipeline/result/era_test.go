package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
)

// The log lost its tail and the operator let the lane be rebuilt from what is left: windows that are not final get a
// revision without the events that are gone, final ones stay.
func TestLaneWithAnotherPast(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 95, 1)
	l.commit()
	w.round(c) // the first window is final
	l.event("y", 70, 1)
	l.event("x", 125, 1)
	l.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", at(60)))
	l.commit()
	l.idle()

	// Offsets 2 and 3 are gone, others take their place.
	r := l.state.Replay()
	require.Equal(t, int64(1), r.From)
	meta, err := lane.Rebuild(w.ctx, w.store, l.program, l.id, l.token, r, source.Ends{End: 2, HighWatermark: 2}, 1234)
	require.NoError(t, err)
	require.Equal(t, int64(1234), meta.Era)
	report := w.round(c)
	require.Empty(t, report.Closed)
	require.Empty(t, report.Incidents)

	l.state, _, err = lane.Restore(w.ctx, w.store, l.program, l.id, l.token)
	require.NoError(t, err)
	l.state.Fold(&source.Batch{Records: l.log[1:2], Next: 2})
	l.log = l.log[:2]
	again := source.Record{Offset: 2, Timestamp: base, Value: []byte(`{"k":"x","t":` + itoa(at(125)) + `,"v":1}`)}
	l.state.Fold(&source.Batch{Records: []source.Record{again}, Next: 3})
	l.commit()
	report = w.round(c)
	require.Empty(t, report.Incidents)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
	require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", at(60)))
	for _, row := range w.ledger() {
		if row.Start == at(60) && row.Revision == 2 {
			require.Equal(t, int64(1), row.Events)
			require.Equal(t, int64(1234), row.Lanes[0].Era)
		}
	}
	require.Empty(t, w.round(c).Closed, "once")
}

func TestVerifyShowsWhatWasSkipped(t *testing.T) {
	w := published(t)
	require.NoError(t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "read", "3", "folded", "3", "skipped", "2").Err())
	check := func() *verify.Report {
		v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase})
		require.NoError(t, err)
		return v
	}
	v := check()
	require.Equal(t, int64(2), v.Totals.Skipped)
	for _, p := range v.Problems {
		require.NotContains(t, []string{verify.ProblemConservation, verify.ProblemInput}, p.Kind, p.Detail)
	}
	require.NoError(t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "skipped", "3").Err())
	found := ""
	for _, p := range check().Problems {
		found += p.Detail
	}
	require.Contains(t, found, "read 3 records and skipped 3 between offsets 0 and 5")
}
