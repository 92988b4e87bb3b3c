package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestWhatIsKeptIsObserved(t *testing.T) {
	r := newRegistry(t)
	r.ObserveKept(func() map[string]report.Kept {
		return map[string]report.Kept{
			"new": {}, "old": {Rows: 350, Results: 120, Oldest: 978307200500, Backlog: 7, Floor: 978307260000},
		}
	})
	require.Equal(t, map[string]float64{
		"millrace_kept_rows pipeline=new": 0, "millrace_kept_results pipeline=new": 0, "millrace_kept_sweep_backlog pipeline=new": 0,
		"millrace_kept_rows pipeline=old": 350, "millrace_kept_results pipeline=old": 120, "millrace_kept_sweep_backlog pipeline=old": 7,
		"millrace_kept_oldest_timestamp_seconds pipeline=old": 978307200.5, "millrace_kept_floor_timestamp_seconds pipeline=old": 978307260,
	}, only(gathered(t, r), "millrace_kept"))
}
