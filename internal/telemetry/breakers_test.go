package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
)

func TestBreakersAreObserved(t *testing.T) {
	r := newRegistry(t)
	r.ObserveBreakers(func() []breaker.Status {
		return []breaker.Status{
			{
				Pipeline: "p", Replica: 1, Dependency: "redis",
				LevelStatus: report.LevelStatus{Level: report.LevelThrottled, Breaker: "open", Override: report.OverrideOpen},
				Entered:     map[report.Level]int64{report.LevelJournal: 2, report.LevelThrottled: 1},
				Totals:      breaker.Totals{Succeeded: 10, Failed: 4, Cancelled: 1},
			},
			{Pipeline: "p", Replica: 1, Dependency: "results", LevelStatus: report.LevelStatus{Breaker: "closed"}},
		}
	})
	require.Equal(t, map[string]float64{
		"millrace_dependency_level dependency=redis pipeline=p replica=1":                           2,
		"millrace_dependency_level dependency=results pipeline=p replica=1":                         0,
		"millrace_dependency_breaker dependency=redis pipeline=p replica=1 state=open":              1,
		"millrace_dependency_breaker dependency=results pipeline=p replica=1 state=closed":          1,
		"millrace_dependency_override dependency=redis override=open pipeline=p replica=1":          1,
		"millrace_dependency_changes_total dependency=redis level=normal pipeline=p replica=1":      0,
		"millrace_dependency_changes_total dependency=redis level=journal pipeline=p replica=1":     2,
		"millrace_dependency_changes_total dependency=redis level=throttled pipeline=p replica=1":   1,
		"millrace_dependency_changes_total dependency=redis level=paused pipeline=p replica=1":      0,
		"millrace_dependency_changes_total dependency=results level=normal pipeline=p replica=1":    0,
		"millrace_dependency_changes_total dependency=results level=journal pipeline=p replica=1":   0,
		"millrace_dependency_changes_total dependency=results level=throttled pipeline=p replica=1": 0,
		"millrace_dependency_changes_total dependency=results level=paused pipeline=p replica=1":    0,
		"millrace_dependency_tries_total dependency=redis outcome=succeeded pipeline=p replica=1":   10,
		"millrace_dependency_tries_total dependency=redis outcome=failed pipeline=p replica=1":      4,
		"millrace_dependency_tries_total dependency=redis outcome=cancelled pipeline=p replica=1":   1,
		"millrace_dependency_tries_total dependency=results outcome=succeeded pipeline=p replica=1": 0,
		"millrace_dependency_tries_total dependency=results outcome=failed pipeline=p replica=1":    0,
		"millrace_dependency_tries_total dependency=results outcome=cancelled pipeline=p replica=1": 0,
	}, only(gathered(t, r), "millrace_dependency"))
}
