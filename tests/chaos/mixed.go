package chaos

import (
	"math/rand/v2"
	"slices"
	"time"
)

// mixedFeed is how long the feed of a mixed fleet takes up to the moment when all lanes are in
// pages: about as long as the schedule up to there, of which half a minute passes after the last
// worker of the older release has gone.
const mixedFeed = 75 * time.Second

// heldFeed is how long the feed of the rest takes.
const heldFeed = 10 * time.Second

// fedBefore is how much of its input a mixed fleet is fed before all lanes are in pages, in percent.
const fedBefore = 70

// mixReleases makes the schedule one of a fleet that is upgraded under way. All workers begin with
// the older release; then they are replaced by those of the newer one and back, so that lanes go to
// and fro between the releases; then the older one goes for good, and the last faults come when all
// lanes are in pages. Up to then one worker at least is of the older release, or the fleet would turn
// its lanes and the older release could not have them back.
func (p *Plan) mixReleases(rng *rand.Rand, scale Scale) {
	p.Mixed, p.Feed = true, mixedFeed
	quarter := len(p.Steps) / 4
	first, last := p.Steps[:quarter], slices.Clone(p.Steps[len(p.Steps)-max(1, quarter):])
	between := p.Steps[len(first) : len(p.Steps)-len(last)]
	steps := slices.Clone(first)
	older := make(map[int]bool)
	for n := range p.Workers {
		older[n] = true
	}
	replace := func(worker int) {
		kind := WorkerUpgrade
		if !older[worker] {
			kind = WorkerDowngrade
		}
		s := p.step(rng, scale, kind)
		s.Worker = worker
		steps = append(steps, s)
		older[worker] = !older[worker]
		if !older[worker] {
			delete(older, worker)
		}
	}
	replace(rng.IntN(p.Workers))
	for rounds := 2 + rng.IntN(2); rounds > 0; rounds-- {
		share := len(between) / (rounds + 1)
		steps, between = append(steps, between[:share]...), between[share:]
		worker := rng.IntN(p.Workers)
		if older[worker] && len(older) == 1 {
			worker = (worker + 1) % p.Workers
		}
		replace(worker)
	}
	steps = append(steps, between...)
	for worker := range p.Workers {
		if older[worker] {
			replace(worker)
		}
	}
	last[0].InPages = true
	p.Steps = append(steps, last...)
}
