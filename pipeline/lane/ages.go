package lane

import (
	"math/rand/v2"
	"time"

	"millrace/pipeline/measure"
	"millrace/pipeline/source"
)

const (
	// agesPerCommit bounds the stamps that wait for one commit.
	agesPerCommit = 512
	// agesCommits bounds the commits whose stamps wait: with a journal there may be any number.
	agesCommits = 64
)

// ages follows the stamps of events from their fold to the moment at which Redis has them. What a batch stands for waits until
// a commit is made, and then until everything below that commit's offset is acknowledged. It belongs to the lane's goroutine.
type ages struct {
	open    []source.Stamp // folded, and in no commit
	waiting []agesOf       // in commits, oldest first
	spare   [][]source.Stamp
}

// agesOf are the stamps of what a commit made readable.
type agesOf struct {
	offset int64 // of the commit: everything below is in it or in one before it
	stamps []source.Stamp
}

// fold takes the stamps of a batch. Those of many batches are thinned: of two neighbours one stands for both, either as
// likely as it has records, so that what they add up to stays right on average.
func (a *ages) fold(stamps []source.Stamp) {
	a.open = append(a.open, stamps...)
	if len(a.open) > agesPerCommit {
		a.open = thin(a.open)
	}
}

// thin leaves at most half of the limit.
func thin(stamps []source.Stamp) []source.Stamp {
	for len(stamps) > agesPerCommit/2 {
		n := 0
		for i := 0; i < len(stamps); i += 2 {
			of := stamps[i]
			if i+1 < len(stamps) {
				next := stamps[i+1]
				all := of.Records + next.Records
				if rand.Int64N(all) >= of.Records {
					of = next
				}
				of.Records = all
			}
			stamps[n] = of
			n++
		}
		stamps = stamps[:n]
	}
	return stamps
}

// commit says that what was folded so far is in a commit which ends at offset.
func (a *ages) commit(offset int64) {
	if len(a.open) == 0 {
		return
	}
	if len(a.waiting) == agesCommits {
		a.joinWaiting()
	}
	a.waiting = append(a.waiting, agesOf{offset, a.open})
	a.open = nil
	if n := len(a.spare); n > 0 {
		a.open, a.spare = a.spare[n-1], a.spare[:n-1]
	}
}

// joinWaiting makes one of every two commits that wait, which counts as readable when the later of them is.
func (a *ages) joinWaiting() {
	n := 0
	for i := 0; i+1 < len(a.waiting); i += 2 {
		both := append(a.waiting[i].stamps, a.waiting[i+1].stamps...)
		if len(both) > agesPerCommit {
			both = thin(both)
		}
		a.waiting[n] = agesOf{a.waiting[i+1].offset, both}
		n++
	}
	clear(a.waiting[n:])
	a.waiting = a.waiting[:n]
}

// readable counts the events below offset, which Redis has had since at.
func (a *ages) readable(offset int64, at time.Time, in *measure.Histogram) {
	n := 0
	for n < len(a.waiting) && a.waiting[n].offset <= offset {
		for _, s := range a.waiting[n].stamps {
			in.ObserveN(at.Sub(time.UnixMilli(s.At)), s.Records)
		}
		if len(a.spare) < 2 {
			a.spare = append(a.spare, a.waiting[n].stamps[:0])
		}
		n++
	}
	a.waiting = append(a.waiting[:0], a.waiting[n:]...)
}
