package fold

import (
	"fmt"
	"slices"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
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

// HaltDetail says why the lane has halted, for people. It means nothing of a lane that has not.
func (s *State) HaltDetail() string {
	e := &s.program.Spec.Event
	detail := fmt.Sprintf("%d events in a row would move the watermark forward by more than event.max_jump, which is %s: "+
		"the greatest event time so far is %s", s.jumps, e.MaxJump, window.FormatTime(s.maxTime))
	if last := s.refusals.of(ReasonJump); last != nil {
		detail += fmt.Sprintf(", the last one's at offset %d %s", last.offset, window.FormatTime(last.ms))
	}
	return detail
}
