package model

import (
	"os"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// recountSeeds is how many seeds are counted again when nobody says otherwise.
const recountSeeds = 150

// recountAfter is Options.After with the clocks of a bubble.
func recountAfter(t *testing.T) func(*World) {
	var one sync.Mutex // bubbles of one test are made one at a time
	return func(w *World) {
		one.Lock()
		defer one.Unlock()
		synctest.Test(t, func(*testing.T) { w.Recount() })
	}
}

// What is counted again is what the oracle counts, is published at most once and on nothing but its base, and leaves nothing
// behind, whichever runners die or freeze.
func TestRecount(t *testing.T) {
	after := recountAfter(t)
	if *seedFlag > 0 {
		out := newLab(t).Run(Options{Seed: *seedFlag, Off: Rule(*ruleFlag), Sky: Climate(*skyFlag), Trace: os.Stdout, After: after})
		require.Empty(t, out.Wrong)
		return
	}
	var sum Outcome
	var mu sync.Mutex
	for _, sky := range []Climate{Mixed, Silence, Refused} {
		each(t, 0, recountSeeds/3, func(lab *Lab, seed uint64) bool {
			out := lab.Run(Options{Seed: seed, Sky: sky, After: after})
			mu.Lock()
			defer mu.Unlock()
			if sum.add(out); out.Wrong != "" {
				t.Errorf("%s seed %d: %s", sky, seed, out.Wrong)
			}
			return true
		})
	}
	t.Logf("recounts %d, refused %d, windows compared %d, different %d, runners killed %d, overtaken %d, corrections %d",
		sum.Recounts, sum.Refused, sum.Compared, sum.Differ, sum.Killed, sum.Overtaken, sum.Corrected)
}
