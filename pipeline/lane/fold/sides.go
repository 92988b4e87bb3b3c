package fold

import (
	"bytes"
	"strconv"
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

// sides collects the late and dead-letter records of the next commit. They leave with it, before its first call.
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

// takeCollected hands over what was collected and starts afresh.
func (s *sides) takeCollected() []source.SideRecord {
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
		if names = window.AppendTime(names, ref.Start); len(names) > maxNames {
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

// reportDead reports a record that is refused.
func (s *sides) reportDead(r *source.Record, f *refusal) {
	if s.deadTopic != "" && r.Offset >= s.from {
		s.addRecord(s.deadTopic, r, f.reason, header{"mr-detail", boundDetail(f.detail())})
	}
}

// reportLate reports a record that missed windows. Lateness is counted from the first deadline it missed.
func (s *sides) reportLate(r *source.Record, ms, watermark int64, plan *window.Plan, start int64) {
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
	s.addRecord(s.lateTopic, r, reason,
		header{"mr-windows", s.missedNames(missed)},
		header{"mr-event-time", window.FormatTime(ms)},
		header{"mr-lateness-ms", strconv.FormatInt(watermark-plan.Deadline(missed[0]), 10)})
}

type header struct{ key, value string }

// sideRecordBytes is the memory of a side record besides its key, its value and the values of its headers.
const sideRecordBytes = 512

func (s *sides) addRecord(topic string, r *source.Record, reason string, more ...header) {
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
