package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	parse := func(text string) result {
		r, err := read([]byte(text))
		require.NoError(t, err)
		return r
	}
	pairs := []pair{
		{
			parse(`{"rows_per_second":100,"published":{"cpu_ns_per_event":{"engine":1000,"redis":null}},"engine_rss_peak_bytes":1048576}`),
			parse(`{"rows_per_second":150,"published":{"cpu_ns_per_event":{"engine":500,"redis":10}},"engine_rss_peak_bytes":2097152}`),
		},
		{
			parse(`{"rows_per_second":200,"published":{"cpu_ns_per_event":{"engine":1200,"redis":20}},"engine_rss_peak_bytes":3145728}`),
			parse(`{"rows_per_second":200,"published":{"cpu_ns_per_event":{"engine":720,"redis":10}}}`),
		},
	}
	text := table("keys-1k", pairs)
	for _, row := range []string{
		"| keys-1k | base | new | new ÷ base |",
		"| rows/s | 150 | 175 | 1.25 (1.00 to 1.50) |",
		"| CPU per event, engine, ns | 1100 | 610 | 0.55 (0.50 to 0.60) |",
		"| CPU per event, Redis, ns | not known | 10 | not known |",
		"| CPU per event, Kafka, ns | not known | not known | not known |",
		"| engine RSS peak, MiB | 2 | not known | not known |",
	} {
		require.Contains(t, strings.Split(text, "\n"), row)
	}
}
