// Package observability holds deploy/observability against real programs: promtool reads the configuration and fires every alert in
// virtual time; a Prometheus with these very rules scrapes a worker through a run with some life in it, and must have an answer to every
// query of every dashboard and rule; and alerts fire within a minute of a fault. `make observability` runs all of it; the normal suite
// has a short run and no live alerts.
package observability
