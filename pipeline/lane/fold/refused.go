package fold

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/pipeline/event"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/window"
)

// shownValue and shownDetail bound what is shown of a refused record, in bytes.
const shownValue, shownDetail = 120, 240

// refusal is what a lane keeps of the records that were refused for one reason. Its memory is used again for every one.
type refusal struct {
	reason  string
	count   int64
	offset  int64
	invalid error // what Decode said; nil for what is decided by time
	ms      int64 // event time
	at      int64 // the record's own timestamp, ms
	before  int64 // greatest event time before it, ms
	value   []byte
}

// detail says what is wrong with the last record.
func (f *refusal) detail() string {
	switch {
	case f.invalid != nil:
		return f.invalid.Error()
	case f.reason == ReasonJump:
		return fmt.Sprintf("event time %s, greatest event time before it %s", window.FormatTime(f.ms), window.FormatTime(f.before))
	}
	return fmt.Sprintf("event time %s, record timestamp %s", window.FormatTime(f.ms), window.FormatTime(f.at))
}

// shown is the detail without the reason, as long as it is shown.
func (f *refusal) shown() string {
	return beginning(strings.TrimPrefix(strings.TrimPrefix(f.detail(), f.reason), ": "), shownDetail)
}

// refusals are those of one lane. There are as many as there are reasons.
type refusals struct {
	all   []refusal
	count int64
}

// of returns what is kept for a reason, nil when nothing was refused for it.
func (f *refusals) of(reason string) *refusal {
	if i := slices.IndexFunc(f.all, func(r refusal) bool { return r.reason == reason }); i >= 0 {
		return &f.all[i]
	}
	return nil
}

// note counts a record that is refused.
func (f *refusals) note(r *source.Record, reason string) *refusal {
	last := f.of(reason)
	if last == nil {
		f.all = append(f.all, refusal{reason: reason})
		last = &f.all[len(f.all)-1]
	}
	f.count++
	last.count++
	last.offset, last.at = r.Offset, r.Timestamp
	last.value = append(last.value[:0], r.Value[:min(len(r.Value), shownValue+1)]...)
	return last
}

// list returns copies, the most frequent reason first.
func (f *refusals) list() []report.RefusedRecords {
	if len(f.all) == 0 {
		return nil
	}
	out := make([]report.RefusedRecords, len(f.all))
	for i := range f.all {
		r := &f.all[i]
		out[i] = report.RefusedRecords{Reason: r.reason, Count: r.count, Last: &report.RefusedRecord{
			Offset: r.offset, Detail: r.shown(), Value: beginning(string(r.value), shownValue),
		}}
	}
	slices.SortStableFunc(out, func(a, b report.RefusedRecords) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// beginning cuts a text, or bytes that may be none, to something that can be shown.
func beginning(text string, limit int) string {
	if len(text) <= limit {
		return strings.ToValidUTF8(text, "?")
	}
	return strings.TrimRight(strings.ToValidUTF8(text[:limit], "?"), "?") + "..."
}

// refuseInvalid refuses a record that is no event.
func (s *State) refuseInvalid(r *source.Record, err error) {
	reason := "invalid"
	var inv *event.Invalid
	if errors.As(err, &inv) {
		reason = string(inv.Reason)
	}
	last := s.refusals.note(r, reason)
	last.invalid = err
	s.sides.reportDead(r, last)
}

// refuse refuses an event because of its time, in ms.
func (s *State) refuse(r *source.Record, reason string, ms int64) {
	last := s.refusals.note(r, reason)
	last.ms, last.before = ms, s.maxTime
	s.sides.reportDead(r, last)
}

// Refused lists why records were refused since the state was made, the most frequent reason first.
func (s *State) Refused() []report.RefusedRecords { return s.refusals.list() }

// firstRefused is how many records a lane reads before it warns that all of them were refused.
const firstRefused = 100

// RefusedCount is how many records were refused since the state was made.
func (s *State) RefusedCount() int64 { return s.refusals.count }

// RefusesAll is one line that says why every record was refused since the lane was taken, "" when one was not or there
// were too few to say so.
func (s *State) RefusesAll() string {
	read := s.counters.Read - s.readBefore
	if read < firstRefused || s.refusals.count != read {
		return ""
	}
	most := slices.MaxFunc(s.refusals.all, func(a, b refusal) int { return cmp.Compare(a.count, b.count) })
	var why string
	switch most.reason {
	case ReasonTooFarAhead:
		why = "too far ahead"
	case ReasonTooFarPast:
		why = "too far in the past"
	default:
		why = "refused: " + most.reason
	}
	text := fmt.Sprintf("%d of %d records are %s", most.count, read, why)
	if most.invalid == nil && most.reason != ReasonJump {
		text += fmt.Sprintf(": event time %s, but the record's Kafka timestamp is %s", window.FormatTime(most.ms), window.FormatTime(most.at))
	} else if detail := most.shown(); detail != "" {
		text += ": " + detail
	}
	if hint := most.hint(s.program.Spec.Event.Time.Unit); hint != "" {
		text += ": " + hint
	}
	return text
}

// credible is how close, in ms, an event time and the record's timestamp are when one of them was read in another unit than
// it was written in and both are right: a leap year.
const credible = 366 * 24 * 60 * 60 * 1000

// firstCredible is the earliest Kafka timestamp that is one, in ms: Kafka is younger than 1990-01-01.
const firstCredible = 631_152_000_000

// near reports whether two times, in ms, may be those of one record.
func near(a, b float64) bool {
	return a-b < credible && b-a < credible
}

// hint guesses which clock is wrong, and says what to do about it. unit is that of the event time.
func (f *refusal) hint(unit string) string {
	var inv *event.Invalid
	nanos, _ := event.Unit(unit)
	switch {
	case f.reason == ReasonTooFarAhead && f.at < firstCredible && near(float64(f.at)*1000, float64(f.ms)):
		return "is the producer's timestamp in seconds? Let it send milliseconds, or set message.timestamp.type=LogAppendTime on the topic"
	case f.reason == ReasonTooFarAhead && f.at < firstCredible:
		return "does the producer set a timestamp? Let it send one in milliseconds, or set message.timestamp.type=LogAppendTime on the topic"
	case f.reason == ReasonTooFarPast && nanos > 0:
		return unitHint(float64(f.ms)*1e6/float64(nanos), float64(f.at))
	case errors.As(f.invalid, &inv) && inv.Reason == event.BadTime:
		if value, err := strconv.ParseFloat(strings.Trim(inv.Got, `"`), 64); err == nil {
			return unitHint(value, float64(f.at))
		}
	}
	return ""
}

// unitHint names the unit in which an event time is close to the record's timestamp, in ms.
func unitHint(value, at float64) string {
	for _, unit := range []string{"s", "ms", "us", "ns"} {
		if nanos, name := event.Unit(unit); near(value*float64(nanos)/1e6, at) {
			return fmt.Sprintf("is the event time in %s? Set event.time.unit: %s", name, unit)
		}
	}
	return ""
}
