package telemetry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
)

func TestBreakersAreObserved(t *testing.T) {
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer provider.Shutdown(context.Background())
	require.NoError(t, ObserveBreakers(provider.Meter("test"), func() []breaker.Status {
		return []breaker.Status{
			{
				Pipeline: "p", Replica: 1, Dependency: "redis",
				LevelStatus: report.LevelStatus{Level: report.LevelThrottled, Breaker: "open", Override: report.OverrideOpen},
				Entered:     map[report.Level]int64{report.LevelJournal: 2, report.LevelThrottled: 1},
				Totals:      breaker.Totals{Succeeded: 10, Failed: 4, Cancelled: 1},
			},
			{Pipeline: "p", Replica: 1, Dependency: "results", LevelStatus: report.LevelStatus{Breaker: "closed"}},
		}
	}))
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	got := map[string]int64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		var points []metricdata.DataPoint[int64]
		switch data := m.Data.(type) {
		case metricdata.Gauge[int64]:
			points = data.DataPoints
		case metricdata.Sum[int64]:
			require.True(t, data.IsMonotonic)
			points = data.DataPoints
		}
		for _, p := range points {
			name := m.Name
			for _, a := range p.Attributes.ToSlice() {
				name += " " + string(a.Key) + "=" + a.Value.String()
			}
			got[name] = p.Value
		}
	}
	require.Equal(t, map[string]int64{
		"millrace.dependency.level dependency=redis pipeline=p replica=1":                     2,
		"millrace.dependency.level dependency=results pipeline=p replica=1":                   0,
		"millrace.dependency.breaker dependency=redis pipeline=p replica=1 state=open":        1,
		"millrace.dependency.breaker dependency=results pipeline=p replica=1 state=closed":    1,
		"millrace.dependency.override dependency=redis override=open pipeline=p replica=1":    1,
		"millrace.dependency.changes dependency=redis level=normal pipeline=p replica=1":      0,
		"millrace.dependency.changes dependency=redis level=journal pipeline=p replica=1":     2,
		"millrace.dependency.changes dependency=redis level=throttled pipeline=p replica=1":   1,
		"millrace.dependency.changes dependency=redis level=paused pipeline=p replica=1":      0,
		"millrace.dependency.changes dependency=results level=normal pipeline=p replica=1":    0,
		"millrace.dependency.changes dependency=results level=journal pipeline=p replica=1":   0,
		"millrace.dependency.changes dependency=results level=throttled pipeline=p replica=1": 0,
		"millrace.dependency.changes dependency=results level=paused pipeline=p replica=1":    0,
		"millrace.dependency.tries dependency=redis outcome=succeeded pipeline=p replica=1":   10,
		"millrace.dependency.tries dependency=redis outcome=failed pipeline=p replica=1":      4,
		"millrace.dependency.tries dependency=redis outcome=cancelled pipeline=p replica=1":   1,
		"millrace.dependency.tries dependency=results outcome=succeeded pipeline=p replica=1": 0,
		"millrace.dependency.tries dependency=results outcome=failed pipeline=p replica=1":    0,
		"millrace.dependency.tries dependency=results outcome=cancelled pipeline=p replica=1": 0,
	}, got)
}
