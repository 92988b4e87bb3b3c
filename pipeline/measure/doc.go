// Package measure holds what a process measures of its pipelines: histograms of how long things took, calls by outcome, and
// what was published. Whoever does the work adds to it, from any goroutine, without a lock and without memory; whoever exports
// metrics reads it when somebody asks.
//
// Everything here has a fixed size for each pipeline and for each kind of call, so nothing can grow with keys, windows or lanes.
// A Process that is nil measures nothing, and nor do a nil Server and a nil Histogram.
package measure
