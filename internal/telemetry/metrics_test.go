package telemetry

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// noEnv is an empty environment.
func noEnv(string) string { return "" }

func newRegistry(t *testing.T) *Registry {
	t.Helper()
	r, err := NewRegistry(t.Context(), noEnv)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

// gathered returns what Prometheus would see of millrace, by name and labels. A histogram is its number of values.
func gathered(t *testing.T, r *Registry) map[string]float64 {
	t.Helper()
	families, err := r.registry.Gather()
	require.NoError(t, err)
	got := make(map[string]float64)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "millrace_") {
			continue
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			require.NotContains(t, got, name)
			got[name] = valueOf(m)
		}
	}
	return got
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return float64(m.Histogram.GetSampleCount())
}

// only returns the values of the named metrics.
func only(all map[string]float64, prefix string) map[string]float64 {
	maps.DeleteFunc(all, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	return all
}

// Labels are bounded: every label of a metric is one of which it is said what bounds it, and none is a key, a window or an offset.
func TestLabelsAreBounded(t *testing.T) {
	bounded := make(map[string]bool)
	for _, l := range labelBounds {
		require.False(t, bounded[l.label], l.label)
		bounded[l.label] = true
		for _, word := range []string{"key", "window", "offset", "start", "id", "address"} {
			require.NotEqual(t, word, l.label)
		}
	}
	used := make(map[string]bool)
	for _, d := range allDefinitions() {
		for _, l := range d.Labels {
			require.True(t, bounded[l], "%s has the label %s; say in labelBounds what bounds it, or leave it out", d.Name, l)
			used[l] = true
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(bounded)), slices.Collect(maps.Keys(used)), "labelBounds names labels that no metric has")
}

// A definition that is exported has the name that the documentation gives it, its kind, its labels and its help.
func TestDefinitionsAreWhatIsExported(t *testing.T) {
	r := newRegistry(t)
	r.sources.add(func(to *scrape) {
		for _, d := range allDefinitions() {
			values := make([]string, len(d.Labels))
			for i := range values {
				values[i] = "x"
			}
			to.set(d, 1, values...)
		}
	})
	families, err := r.registry.Gather()
	require.NoError(t, err)
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	kinds := map[Kind]dto.MetricType{Counter: dto.MetricType_COUNTER, Gauge: dto.MetricType_GAUGE}
	for _, d := range allDefinitions() {
		if d.Kind == Histogram {
			continue
		}
		name, err := d.PrometheusName()
		require.NoError(t, err)
		f := byName[name]
		require.NotNil(t, f, name)
		require.Equal(t, kinds[d.Kind], f.GetType(), name)
		require.Equal(t, d.Help, f.GetHelp(), name)
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		require.ElementsMatch(t, d.Labels, labels, name)
		require.False(t, strings.HasSuffix(name, "_ratio"), name)
	}
}
