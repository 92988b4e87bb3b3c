package telemetry

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

const (
	root        = "../.."
	metricsFile = root + "/docs/metrics.md"
)

func TestMetricsAreDocumented(t *testing.T) {
	text, err := document()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(metricsFile, []byte(text), 0o644))
	}
	written, err := os.ReadFile(metricsFile)
	require.NoError(t, err)
	require.Equal(t, text, string(written), "docs/metrics.md is stale: go test ./internal/telemetry -run Documented -update")
}

// metricName is a name on /metrics, or the same with dots. A topic, a key or a file begins otherwise.
var metricName = regexp.MustCompile(`\bmillrace[_.][a-z][a-z_.]*[a-z]\b`)

// Every metric that a document, a dashboard or an alert names exists, with that very name.
func TestDocumentsNameMetricsThatExist(t *testing.T) {
	known := make(map[string]bool)
	for _, d := range allDefinitions() {
		name, err := d.PrometheusName()
		require.NoError(t, err)
		known[name] = true
		if d.Kind == Histogram {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	seen := 0
	check := func(path string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, name := range metricName.FindAllString(string(text), -1) {
			switch {
			case known[name]:
				seen++
			case path != metricsFile && !notMetrics[name]:
				t.Errorf("%s names the metric %s, which does not exist; docs/metrics.md lists those that do", path, name)
			}
		}
	}
	check(root + "/README.md")
	for _, dir := range []string{root + "/docs", root + "/deploy"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return fs.SkipDir
			case err != nil:
				return err
			case !d.IsDir() && strings.Contains(".md .json .yaml .yml", filepath.Ext(path)) && filepath.Ext(path) != "":
				check(path)
			}
			return nil
		})
		require.NoError(t, err)
	}
	require.Greater(t, seen, 10)
}

// notMetrics look like metrics and are something else: the consumer groups of the examples.
var notMetrics = map[string]bool{"millrace.flights": true, "millrace.team": true}
