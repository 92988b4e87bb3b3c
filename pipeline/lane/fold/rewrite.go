package fold

import (
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Rewriting fills the meta of a lane that goes on at another offset, given the meta that is there, and reports whether
// all slices of the lane are dropped with it.
type Rewriting func(meta store.Meta, next *store.MetaUpdate) (purge bool)

// Rewrite returns the update that fn makes of a lane, found empty but for what has nothing to do with the log. updatedAt
// is the time of now in ms.
func Rewrite(meta store.Meta, fn Rewriting, updatedAt int64) (next store.MetaUpdate, purge bool) {
	next = store.MetaUpdate{
		Watermark: window.NoTime, MaxTime: window.NoTime, Sealed: window.NoTime, IdleEnd: store.NotIdle,
		CtlGen: meta.CtlGen, SpecGen: meta.SpecGen, UpdatedAt: updatedAt,
	}
	purge = fn(meta, &next)
	next.Whole, next.Balance.Known = true, true
	if purge {
		next.Balance.Dropped = next.Counters.Folded
	}
	return next, purge
}

// Rebuilding makes a lane read again from where r says; whatever stands there is dropped. era is the time of the decision
// in ms: the lane gets it as its new past if r does not bring back exactly the old one, or if newPast says that it may not
// be the old one whatever r says.
func Rebuilding(r Replay, ends source.Ends, era int64, newPast bool) Rewriting {
	return func(_ store.Meta, next *store.MetaUpdate) bool {
		next.TopicID, next.Era = r.TopicID, era
		if !newPast && r.Exact() && r.Decided <= ends.HighWatermark {
			next.Era = r.Era
		}
		next.Decided = min(r.Decided, ends.HighWatermark) // what the log does not reach any more is decided by none that is still there
		next.Offset, next.Counters.Skipped = ends.Start, r.Basis.Counters.Skipped
		if r.From > ends.HighWatermark {
			return true // no slice began in what is left: all of it is read again
		}
		next.Offset, next.Watermark, next.Sealed, next.Counters = r.From, r.Basis.Watermark, r.Basis.Sealed, r.Basis.Counters
		for _, x := range r.Seals {
			if x.Offset <= next.Decided {
				next.Seals = append(next.Seals, x)
			}
		}
		next.Accepted, next.Begun = r.Accepted, r.Begun
		return true
	}
}

// AnsweringJumps lets the halted lane go on: the next jump is accepted, or all are refused as before. Nothing else
// changes.
func (s *State) AnsweringJumps(accept bool) Rewriting {
	return func(meta store.Meta, next *store.MetaUpdate) bool {
		s.keepMeta(next, meta)
		next.Offset, next.Jumps = meta.Offset, 0
		if accept {
			next.Jumps = store.AcceptJump
		}
		for _, k := range s.sorted() {
			next.Slices = append(next.Slices, s.slices[k].stat)
		}
		return false
	}
}

// Skipping moves a lane's meta on to start, or behind it when entries were written up to there. Entries that a commit left
// which never ended hold records that cannot be read again: they count as read now. lost gets how many records are lost.
func (s *State) Skipping(start, era int64, lost *int64) Rewriting {
	return func(meta store.Meta, next *store.MetaUpdate) bool {
		start := max(start, s.ahead)
		s.keepMeta(next, meta)
		next.Offset = start
		if meta.Offset < meta.Decided {
			next.Era = era // what was published held the records that are lost now
		}
		kept := int64(0)
		for _, sl := range s.slices {
			if n := sl.unconfirmed(); n > 0 && s.ahead > meta.Offset {
				if sl.stat.Folded == 0 {
					sl.stat.FirstOffset = meta.Offset
					sl.stat.Basis = store.Basis{Known: true, Watermark: meta.Watermark, Sealed: meta.Sealed, Counters: meta.Counters}
				}
				sl.stat.Folded += n
				sl.stat.LastOffset = start - 1
				kept += n
			}
			next.Slices = append(next.Slices, sl.stat)
		}
		*lost = start - meta.Offset - kept
		next.Counters.Read += kept
		next.Counters.Folded += kept
		next.Counters.Skipped += *lost
		return false
	}
}

// keepMeta fills next with what meta says, but for the offset and the slices.
func (s *State) keepMeta(next *store.MetaUpdate, meta store.Meta) {
	*next = store.MetaUpdate{
		Watermark: meta.Watermark, MaxTime: meta.MaxTime, Sealed: meta.Sealed, IdleEnd: store.NotIdle,
		Counters: meta.Counters, TopicID: meta.TopicID, CtlGen: meta.CtlGen, SpecGen: meta.SpecGen, UpdatedAt: next.UpdatedAt,
		Seals: meta.Seals, Era: meta.Era, Decided: meta.Decided, Jumps: meta.Jumps, Accepted: meta.Accepted, Begun: meta.Begun,
		Balance: store.Balance{Dropped: s.dropped},
	}
}

// Unconfirmed counts the records that entries hold beyond the committed offset.
func (s *State) Unconfirmed() int64 {
	n := int64(0)
	if s.ahead > s.offset {
		for _, sl := range s.slices {
			n += max(0, sl.unconfirmed())
		}
	}
	return n
}

// unconfirmed is how many events the entries of a slice hold beyond those that were folded into it.
func (sl *slice) unconfirmed() int64 { return sl.events() - sl.stat.Folded }

// Folded counts the events of the slices held.
func (s *State) Folded() int64 {
	n := int64(0)
	for _, sl := range s.slices {
		n += sl.stat.Folded
	}
	return n
}
