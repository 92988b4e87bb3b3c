package app

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
)

// Closing is up to date with every round that leaves nothing due. Whatever does leave something, also a round that fails or hangs,
// and another run of the workflow, lets the delay grow.
func TestClosingDelay(t *testing.T) {
	var windows = []report.FailedWindow{{Problem: "x"}}
	tests := []struct {
		name  string
		told  result.RoundReport
		err   error
		skip  []report.WindowRef
		grows bool
	}{
		{name: "nothing due"},
		{name: "a window failed", told: result.RoundReport{Round: report.Round{Failed: windows}}, grows: true},
		{name: "a window waits for a lane", told: result.RoundReport{Pending: windows}, grows: true},
		{name: "an incident", told: result.RoundReport{Incidents: windows}, grows: true},
		{name: "Kafka takes no results", told: result.RoundReport{Kafka: []string{"slot 3"}}, grows: true},
		{name: "more windows than one round closes", told: result.RoundReport{Due: result.DefaultMaxPerRound}, grows: true},
		{name: "the lanes cannot be looked at", err: errors.New("redis is away"), grows: true},
		{name: "a window has a workflow of its own", skip: []report.WindowRef{{Window: "hourly"}}, grows: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			working(t, func(t *testing.T, w *workshop) {
				c, done := w.take(t, &spec.Spec{Name: "orders"})
				defer done()
				began := time.Now()
				_, err := c.Round(t.Context(), nil)
				require.NoError(t, err)
				require.Equal(t, []string{"orders"}, w.pipelines())
				require.True(t, began.Equal(w.closing()["orders"].UpToDate))
				pass(time.Minute)
				w.made[0].report, w.made[0].err = tt.told, tt.err
				w.made[0].report.Open, w.made[0].report.Waiting.Watermark = 7, 5000
				_, _ = c.Round(t.Context(), tt.skip)
				other, otherDone := w.takeIn(t, &spec.Spec{Name: "orders"}, "run-2")
				defer otherDone()
				w.made[1].err = errors.New("cannot look")
				pass(time.Second)
				_, _ = other.Round(t.Context(), nil)
				want := time.Minute
				if tt.grows {
					want = 0
				}
				require.Equal(t, want, w.closing()["orders"].UpToDate.Sub(began))
			})
		})
	}
}
