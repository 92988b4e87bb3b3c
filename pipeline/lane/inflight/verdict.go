package inflight

import (
	"errors"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/store"
)

// Verdict is what a lane does about an error that broke its chain of commits.
type Verdict int

const (
	// End ends this life of the lane: somebody else owns it, or it starts again from what Redis has.
	End Verdict = iota
	// Reseed takes a new token and writes the lane's whole memory again: Redis forgot it.
	Reseed
	// AskRedis is Reseed if Redis holds nothing of the lane, and End otherwise: the lane's journal cannot be read.
	AskRedis
	// Park waits for an operator: no retry mends it.
	Park
)

// Judge says what an error that broke the chain means.
func Judge(err error) Verdict {
	switch {
	case deliver.JournalUnreadable(err):
		return AskRedis
	case errors.Is(err, store.ErrLostWrites), errors.Is(err, store.ErrNoMeta):
		return Reseed
	case store.IsFinal(err) && !errors.Is(err, store.ErrFenced):
		return Park
	}
	return End
}

// HoldsOnlyCopy reports, where Judge says AskRedis, whether the lane's memory is the only copy of its state, given the meta
// that Redis has.
func HoldsOnlyCopy(meta store.Meta, found bool) bool { return !found || meta.Offset < 0 }
