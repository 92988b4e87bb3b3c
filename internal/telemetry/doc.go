// Package telemetry turns what the hot paths say of themselves into OpenTelemetry metrics for Prometheus; internal/admin serves
// them. Everything is read when a scrape asks; the hot path pays nothing.
// Labels are bounded: pipeline, replica, topic, partition, dependency, level, outcome, state and override, never a key or a window.
package telemetry
