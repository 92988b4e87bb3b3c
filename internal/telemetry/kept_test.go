package telemetry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"millrace/pipeline/report"
)

func TestWhatIsKeptIsObserved(t *testing.T) {
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer provider.Shutdown(context.Background())
	require.NoError(t, ObserveKept(provider.Meter("test"), func() map[string]report.Kept {
		return map[string]report.Kept{
			"new": {}, "old": {Rows: 350, Results: 120, Oldest: 978307200500, Backlog: 7, Floor: 978307260000},
		}
	}))
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	got := map[string]float64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				got[m.Name+" "+p.Attributes.ToSlice()[0].Value.AsString()] = float64(p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range data.DataPoints {
				got[m.Name+" "+p.Attributes.ToSlice()[0].Value.AsString()] = p.Value
			}
		}
	}
	require.Equal(t, map[string]float64{
		"millrace.kept.rows new": 0, "millrace.kept.results new": 0, "millrace.kept.sweep.backlog new": 0,
		"millrace.kept.rows old": 350, "millrace.kept.results old": 120, "millrace.kept.sweep.backlog old": 7,
		"millrace.kept.oldest old": 978307200.5, "millrace.kept.floor old": 978307260,
	}, got)
}
