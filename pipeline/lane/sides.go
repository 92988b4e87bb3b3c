package lane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Reasons that stand in the mr-reason header beside those of package event.
const (
	ReasonTooFarAhead = "too_far_ahead" // event time beyond the record's own timestamp plus max_future
	ReasonTooFarPast  = "too_far_past"  // event time before the record's own timestamp minus max_past
	ReasonJump        = "jump"          // event time beyond the lane's greatest so far plus max_jump
	ReasonLate        = "late"          // late for every window it belongs to: folded nowhere
	ReasonLateForSome = "late_for_some" // folded where it was on time, late for the windows named
)

// sides collects the late and dead-letter records of the running commit. They leave with it, before its first call.
// A record's original key and value travel unchanged; headers say where it came from and why.
type sides struct {
	id        store.LaneID
	lateTopic string // "" when late records are counted only
	deadTopic string
	windows   []spec.Window
	from      int64 // records below were reported before
	records   []source.SideRecord
	bytes     int
}

func newSides(s *spec.Spec, id store.LaneID) sides {
	return sides{id: id, lateTopic: topicOf(s.Late), deadTopic: topicOf(s.DeadLetter), windows: s.Windows}
}

func topicOf(s spec.Sink) string {
	if s.Kafka == nil {
		return ""
	}
	return s.Kafka.Topic
}

// take hands over what was collected and starts afresh.
func (s *sides) take() []source.SideRecord {
	r := s.records
	s.records, s.bytes = nil, 0
	return r
}

// maxNames bounds mr-windows in bytes. An event may lie in a thousand windows, and a batch of small records that are late
// for all of them must not take a thousand times its size.
const maxNames = 4 << 10

// missedNames lists windows as name@start. Those beyond maxNames are an ellipsis.
func (s *sides) missedNames(missed []window.Ref) string {
	var names []byte
	for i, ref := range missed {
		end := len(names)
		if i > 0 {
			names = append(names, ',')
		}
		names = append(append(names, s.windows[ref.Window].Name...), '@')
		if names = append(names, stamp(ref.Start)...); len(names) > maxNames {
			return string(append(names[:end], ",..."...))
		}
	}
	return string(names)
}

// maxDetail bounds mr-detail in bytes. What a filter reports quotes texts of the event, which may be as long as the record.
const maxDetail = 1 << 10

func boundDetail(detail string) string {
	if len(detail) <= maxDetail {
		return detail
	}
	end := maxDetail
	for end > maxDetail-utf8.UTFMax && !utf8.RuneStart(detail[end]) {
		end--
	}
	return detail[:end] + "..."
}

// dead reports a record that is refused.
func (s *sides) dead(r *source.Record, f *refusal) {
	if s.deadTopic != "" && r.Offset >= s.from {
		s.add(s.deadTopic, r, f.reason, header{"mr-detail", boundDetail(f.detail())})
	}
}

// late reports a record that missed windows. Lateness is counted from the first deadline it missed.
func (s *sides) late(r *source.Record, ms, watermark int64, plan *window.Plan, start int64) {
	if s.lateTopic == "" {
		return
	}
	missed := plan.Missed(start, watermark)
	if len(missed) == 0 {
		return
	}
	reason := ReasonLate
	if len(missed) < len(plan.WindowsOf(start)) {
		reason = ReasonLateForSome
	}
	s.add(s.lateTopic, r, reason,
		header{"mr-windows", s.missedNames(missed)},
		header{"mr-event-time", stamp(ms)},
		header{"mr-lateness-ms", strconv.FormatInt(watermark-plan.Deadline(missed[0]), 10)})
}

type header struct{ key, value string }

// sideRecordBytes is the memory of a side record besides its key, its value and the values of its headers.
const sideRecordBytes = 512

func (s *sides) add(topic string, r *source.Record, reason string, more ...header) {
	if topic == "" || r.Offset < s.from {
		return
	}
	// Copies: a record keeps its whole fetch response in memory, and a commit may wait.
	rec := source.SideRecord{Topic: topic, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Headers: make([]source.Header, 0, 4+len(more))}
	for _, h := range append([]header{
		{"mr-reason", reason},
		{"mr-topic", s.id.Topic},
		{"mr-partition", strconv.FormatInt(int64(s.id.Partition), 10)},
		{"mr-offset", strconv.FormatInt(r.Offset, 10)},
	}, more...) {
		rec.Headers = append(rec.Headers, source.Header{Key: h.key, Value: []byte(h.value)})
		s.bytes += len(h.value)
	}
	s.records = append(s.records, rec)
	s.bytes += len(r.Key) + len(r.Value) + sideRecordBytes
}

// HeaderCut stands on a side record that its topic would not take whole: the lengths of key and value as they were.
const HeaderCut = "mr-cut-from"

// leastSide and leastHeader are the lengths in bytes below which neither key nor value, and no header, is cut.
const leastSide, leastHeader = 256, 64

// sendFitting publishes records. One that its topic will never take would stop the lane for ever, so such records are
// found by halving and then cut until they fit; their headers say where the original is.
func sendFitting(ctx context.Context, side SideSender, records []source.SideRecord) error {
	err := side.Send(ctx, records)
	switch {
	case !errors.Is(err, source.ErrRecordTooLarge):
		return err
	case len(records) > 1:
		half := len(records) / 2
		if err := sendFitting(ctx, side, records[:half]); err != nil {
			return err
		}
		return sendFitting(ctx, side, records[half:])
	case shorten(&records[0]):
		return sendFitting(ctx, side, records)
	}
	return err
}

// shorten halves the longer of key and value and, when both are short, the longest header: a detail, or the names of
// windows. It reports whether there was enough to cut.
func shorten(r *source.SideRecord) bool {
	if max(len(r.Key), len(r.Value)) < leastSide {
		return shortenHeader(r)
	}
	if n := len(r.Headers); n == 0 || r.Headers[n-1].Key != HeaderCut {
		r.Headers = append(r.Headers, source.Header{Key: HeaderCut, Value: fmt.Appendf(nil, "%d,%d", len(r.Key), len(r.Value))})
	}
	if len(r.Key) > len(r.Value) {
		r.Key = r.Key[:len(r.Key)/2]
	} else {
		r.Value = r.Value[:len(r.Value)/2]
	}
	return true
}

func shortenHeader(r *source.SideRecord) bool {
	longest := 0
	for i := range r.Headers {
		if len(r.Headers[i].Value) > len(r.Headers[longest].Value) {
			longest = i
		}
	}
	if len(r.Headers) == 0 || len(r.Headers[longest].Value) < leastHeader {
		return false
	}
	h := &r.Headers[longest]
	h.Value = append(h.Value[:len(h.Value)/2:len(h.Value)/2], "..."...)
	return true
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }
