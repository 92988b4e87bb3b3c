//go:build race

package model

// Under the race detector the scripts run about ten times slower.
func init() { defaultSeeds, recountSeeds = 60, 4 }
