package lane

import (
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/stage"
)

// Times is where the goroutines of a lane have spent their time since the lane was claimed.
type Times struct {
	Lane      stage.Account // decides and folds
	Reader    stage.Account // fetches
	Committer stage.Account // brings commits to Redis or to the journal
}

// times books it. The clocks may be read from any goroutine; what else there is belongs to the lane's.
type times struct {
	lane, reader, committer *stage.Clock

	batches        int           // folded so far
	decoded, folds time.Duration // of the batches that were watched, the latest counting most
	watch          watch         // of the batch that is watched; here, because what an interface points to is allocated
}

func newTimes() times {
	return times{lane: stage.NewClock(stage.Acquire), reader: stage.NewClock(stage.Idle), committer: stage.NewClock(stage.Idle)}
}

func (t *times) account() Times {
	return Times{Lane: t.lane.Account(), Reader: t.reader.Account(), Committer: t.committer.Account()}
}

// watchEvery is of how many batches one is watched: reading the clock twice for every group of events costs a few per cent.
const watchEvery = 16

// foldBooked folds a batch. How its time divides into decoding and folding is measured in one of watchEvery batches.
func (r *loop) foldBooked(b *source.Batch) {
	t := &r.times
	t.lane.Enter(stage.Fold)
	if t.batches%watchEvery == 0 && len(b.Records) > 0 {
		w := &t.watch
		*w = watch{since: time.Now()}
		r.state.Watch(w)
		r.following.fold(r.state, b)
		r.state.Watch(nil)
		w.Folding()
		t.decoded, t.folds = t.decoded/2+w.decoded, t.folds/2+w.folded
	} else {
		r.following.fold(r.state, b)
	}
	if len(b.Records) > 0 {
		t.batches++
	}
	t.lane.EnterDividing(stage.Rest, stage.Part{Stage: stage.Fold, Weight: t.folds}, stage.Part{Stage: stage.Decode, Weight: t.decoded})
}

// watch implements fold.Watch.
type watch struct {
	since           time.Time
	decoded, folded time.Duration
}

func (w *watch) Folding()  { w.book(&w.decoded) }
func (w *watch) Decoding() { w.book(&w.folded) }

func (w *watch) book(to *time.Duration) {
	now := time.Now()
	*to += now.Sub(w.since)
	w.since = now
}
