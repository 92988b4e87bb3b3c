package lane

import (
	"context"
	"fmt"
	"slices"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// maxAccepted bounds the accepted jumps a lane remembers, and so the metadata of its group offset.
const maxAccepted = 64

// acceptJump decides about an event that would move the watermark forward by more than max_jump. It is refused, unless the
// operator has answered that the next one be accepted, or it was accepted when it was read before. Too many in a row halt
// the lane: either all of these records are wrong, or the watermark is.
func (s *State) acceptJump(r *source.Record) bool {
	switch {
	case slices.Contains(s.accepted, r.Offset):
		return true
	case s.jumps == store.AcceptJump:
		s.rememberAccepted(r.Offset)
		return true
	}
	s.jumps++
	if s.jumps < int64(s.program.Spec.Event.MaxJumpStreak) {
		return false
	}
	if s.halted = r.Offset >= s.decided; !s.halted {
		s.jumps = 0 // the operator has answered then that they be refused
	}
	return false
}

// rememberAccepted keeps the offset for a rebuild.
func (s *State) rememberAccepted(offset int64) {
	if len(s.accepted) == maxAccepted {
		s.dropAccepted(1)
	}
	s.accepted = append(s.accepted, offset)
}

// dropAccepted forgets the n oldest accepted jumps, and with them how records were decided up to there.
func (s *State) dropAccepted(n int) {
	s.markForgotten(s.accepted[n-1] + 1)
	s.accepted = slices.Delete(s.accepted, 0, n)
}

// Halted reports whether the lane has refused max_jump_streak jumps in a row and reads no further before the operator has answered.
func (s *State) Halted() bool { return s.halted }

// Answer lets a halted lane go on as the operator decided about jumps, with ChoiceAccept or ChoiceRefuse, in one call. The
// state is the one that halted, as it was committed; owner owns the lane. It returns the new meta.
func Answer(ctx context.Context, st Store, p *Program, id store.LaneID, owner store.Token, s *State, choice string) (store.Meta, error) {
	return rewrite(ctx, st, p, id, owner, s.answering(choice))
}

// answering is the rewriting that carries an answer out.
func (s *State) answering(choice string) rewriting {
	return func(meta store.Meta, next *store.MetaUpdate) (purge bool, err error) {
		s.answerJump(next, meta, choice)
		return false, nil
	}
}

// jumpIncident says why a halted lane reads no further, nil when it is not halted.
func (s *State) jumpIncident() *Incident {
	if !s.halted {
		return nil
	}
	e := &s.program.Spec.Event
	detail := fmt.Sprintf("%d events in a row would move the watermark forward by more than event.max_jump, which is %s: "+
		"the greatest event time so far is %s", s.jumps, e.MaxJump, stamp(s.maxTime))
	if last := s.refusals.of(ReasonJump); last != nil {
		detail += fmt.Sprintf(", the last one's at offset %d %s", last.offset, stamp(last.ms))
	}
	return &Incident{Kind: IncidentJump, From: s.offset, To: s.offset, Detail: detail}
}

// offerJump lists what the operator may do about jumps.
func offerJump() []Choice {
	return []Choice{
		{Name: ChoiceAccept, Exact: true, Text: "the time of these events is right: accept the next one, which moves the watermark there"},
		{Name: ChoiceRefuse, Exact: true, Text: "the time of these events is wrong: go on refusing them, and ask again after as many in a row"},
	}
}

// answerJump moves a halted lane's meta on as the operator decided; nothing else changes.
func (s *State) answerJump(next *store.MetaUpdate, meta store.Meta, choice string) {
	s.keep(next, meta)
	next.Offset, next.Jumps = meta.Offset, 0
	if choice == ChoiceAccept {
		next.Jumps = store.AcceptJump
	}
	for _, k := range s.sorted() {
		next.Slices = append(next.Slices, s.slices[k].stat)
	}
}
