// Package observability holds deploy/observability against real programs: promtool reads the configuration and the rules, and fires every
// alert in virtual time.
package observability
