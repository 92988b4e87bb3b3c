// Package stuck brings every state about that docs/stuck-states.md lists, on real parts: servers that are cut off, full or
// read-only, lanes with incidents, workers that are missing, windows that cannot be published, workflows that were ended by hand.
// In each of them it looks at what status, the pipeline's page, metrics, /health and verify say, goes the way out that the table
// names until the pipeline is well again, and then sends every command into the state anew: it must end, or say within seconds
// what it waits for, until when, and how to go on.
//
// A state of the table that no scenario tries fails the package. `make stuck` runs all of it; without its flag -all only the
// scenarios that take seconds run, and no commands.
package stuck
