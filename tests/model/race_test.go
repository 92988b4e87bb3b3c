//go:build race

package model

// Under the race detector the scripts run about ten times slower. What is found wrong without a rule
// does not depend on it, and is found without it: see make test.
func init() { defaultSeeds, recountSeeds, underRace = 60, 4, true }
