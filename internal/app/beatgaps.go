package app

import (
	"time"

	"millrace/internal/contract"
)

// beatGaps measures how far apart this process's beats have been of late. A process that a busy machine rarely schedules would be
// taken for gone, so it tells the others how much longer to wait. Gaps in which Redis was away say nothing about the process. Only
// the goroutine that beats uses it.
type beatGaps struct {
	last  time.Time // the last beat that succeeded; zero when one has failed since
	most  time.Duration
	until time.Time // when most is forgotten
}

// gapKept is how long the longest gap counts.
const gapKept = 5 * time.Minute

func (g *beatGaps) failed() { g.last = time.Time{} }

func (g *beatGaps) succeeded(now time.Time) {
	if !g.last.IsZero() {
		if gap := now.Sub(g.last); gap >= g.most || now.After(g.until) {
			g.most, g.until = gap, now.Add(gapKept)
		}
	}
	g.last = now
}

// slow is the longest gap of late in steps of contract.PresenceEvery, rounded up, so that what is told seldom changes; 0 where it
// is nothing that others have to know.
func (g *beatGaps) slow(now time.Time) time.Duration {
	if now.After(g.until) || 2*g.most <= contract.GoneAfter {
		return 0
	}
	return (g.most + contract.PresenceEvery - 1).Truncate(contract.PresenceEvery)
}
