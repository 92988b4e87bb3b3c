package telemetry

import (
	"fmt"
	"strings"
)

const documentHead = `# Metrics

<!-- Made from internal/telemetry/definitions.go by: go test ./internal/telemetry -run Documented -update -->

What a worker says of itself on ` + "`/metrics`" + `, by the names that stand there. Over OTLP the same metrics have dots instead of underscores, and
neither the unit nor ` + "`_total`" + ` in their names. Everything is read from the parts' own counters when somebody asks.
A histogram has the series ` + "`_bucket`, `_sum` and `_count`" + `; ` + "`histogram_quantile(0.99, sum by (le) (rate(NAME_bucket[5m])))`" + ` is its p99.

Beside them stand what Go's runtime (` + "`go_...`" + `) and the process (` + "`process_...`" + `) say, and Temporal's SDK (` + "`temporal_...`" + `).
`

// document is docs/metrics.md.
func document() (string, error) {
	var b strings.Builder
	b.WriteString(documentHead)
	for _, group := range definitions {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | kind | labels | what |\n|---|---|---|---|\n", group.about)
		for _, d := range group.all {
			name, err := d.PrometheusName()
			if err != nil {
				return "", err
			}
			labels := make([]string, len(d.Labels))
			for i, l := range d.Labels {
				labels[i] = "`" + l + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, d.Kind, strings.Join(labels, ", "), d.Help)
		}
	}
	b.WriteString("\n## Labels\n\nWhat bounds the number of values of each label. A key, a window or an offset is never one.\n\n" +
		"| label | bounded by |\n|---|---|\n")
	for _, l := range labelBounds {
		fmt.Fprintf(&b, "| `%s` | %s |\n", l.label, l.bound)
	}
	return b.String(), nil
}
