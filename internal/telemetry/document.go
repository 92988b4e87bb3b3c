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

Beside them stand what Go's runtime (` + "`go_...`" + `) and the process (` + "`process_...`" + `) say, and Temporal's SDK (` + "`temporal_...`" + `), for
which queues of a single worker or disk are called ` + "`host`" + ` and ` + "`disk`" + `.

- **How old events are.** An event's age begins with its stamp: the header ` + "`mr-stamp`" + `, milliseconds since the epoch as decimal digits, or
  without it the record's timestamp, which is the producer's clock or the broker's as the topic's ` + "`message.timestamp.type`" + ` says. It ends when
  Redis has acknowledged the commit that holds the event. The reader takes about 64 stamps of each fetch at random, each with the weight of the
  records that it stands for.
- **Whose clock.** Ages and delays compare the clocks of producers and workers. One that comes out negative counts as 0.
- **Where.** What belongs to a pipeline as a whole is said by the worker that closes its windows, what belongs to a lane by the one that
  runs it: sum over workers, and take the maximum of states and delays.
- **OTLP.** With ` + "`OTEL_EXPORTER_OTLP_ENDPOINT`" + ` or ` + "`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`" + ` set, a worker sends everything there once a minute
  (` + "`OTEL_METRIC_EXPORT_INTERVAL`" + `, in ms), as ` + "`OTEL_EXPORTER_OTLP_PROTOCOL`" + ` says: ` + "`http/protobuf`" + ` or ` + "`grpc`" + `. Headers, certificates, timeouts and
  the resource have OpenTelemetry's variables, too; ` + "`OTEL_METRICS_EXPORTER=none`" + ` turns it off.
- **Pushgateway.** ` + "`--pushgateway http://HOST:PORT`" + ` (or ` + "`MILLRACE_PUSHGATEWAY`" + `) of ` + "`dev`, `feed`, `bench` and `replay`" + ` pushes when the run ends: how long
  it took, its records, its outcome, and everything that the process has measured, as job ` + "`millrace_COMMAND`" + ` of this host. A Pushgateway that
  does not take it is named on standard error, and changes nothing about the run.
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
