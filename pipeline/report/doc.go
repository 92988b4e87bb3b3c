// Package report holds the facts that cross packages: which lanes and windows there are words about, what a recovery found and did,
// why a lane is parked and what can be decided, what a closer closed and waits for, at which level of degradation a dependency is,
// and what a journal's books say. The packages of the hot path fill these structs, the control plane carries them through Temporal
// and the command line shows them, each without a struct of its own: the JSON names are those that histories hold. The package
// imports nothing but the standard library. Fields without a JSON name are for the process that filled them.
package report
