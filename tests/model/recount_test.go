package model

import (
	"os"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// recountSeeds is how many seeds are counted again when nobody says otherwise.
const recountSeeds = 60

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

// recountMutants are the rules of recounts that can be switched off, and in which climate that shows.
var recountMutants = []struct {
	rule Rule
	sky  Climate
	from uint64
}{
	{sealsAgain, Silence, 90}, {endsFirst, Mixed, 1}, {baseChecked, Mixed, 1}, {endFences, Mixed, 1},
	{ownCommits, Mixed, 1},
}

// recountMutantSeeds is within how many seeds a mutant must be found wrong.
const recountMutantSeeds = 100

// Every rule of a recount is needed.
func TestRecountMutants(t *testing.T) {
	after := recountAfter(t)
	for _, m := range recountMutants {
		if *ruleFlag != "" && *ruleFlag != string(m.rule) {
			continue
		}
		var mu sync.Mutex
		first, found := uint64(0), Outcome{}
		each(t, int(m.from)-1, recountMutantSeeds, func(lab *Lab, seed uint64) bool {
			out := lab.Run(Options{Seed: seed, Off: m.rule, Sky: m.sky, After: after})
			mu.Lock()
			defer mu.Unlock()
			if out.Wrong != "" && (first == 0 || seed < first) {
				first, found = seed, out
			}
			return first == 0
		})
		if first == 0 {
			t.Errorf("%-60s %-8s not found wrong", m.rule, m.sky)
			continue
		}
		t.Logf("%-60s %-8s seed %3d: %s", m.rule, m.sky, first, head(found.Wrong))
	}
}
