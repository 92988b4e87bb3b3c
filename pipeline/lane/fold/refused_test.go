package fold

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

func TestRefusedRecordsAreListedByReason(t *testing.T) {
	s := NewState(guarded(t, 1000), testLane, "id", 0, store.Cursor{})
	require.Empty(t, s.Refused())
	long := `{"k":"` + strings.Repeat("é", 500) + `","t":"x"}`
	s.Fold(batch(
		record(0, "not JSON"), source.Record{Offset: 1, Timestamp: kafkaTime}, eventAt(2, "a", kafkaTime+3_600_001, 1),
		eventAt(3, "a", early, 1), eventAt(4, "a", early+600_001, 1), eventAt(5, "a", early-3_600_001, 1), record(6, long),
		record(7, `{"k":"a","t":"soon"}`), record(8, "\xff\xfe"),
	))
	got := s.Refused()
	refused := func(reason string, count, offset int64, detail, value string) report.RefusedRecords {
		return report.RefusedRecords{Reason: reason, Count: count, Last: &report.RefusedRecord{Offset: offset, Detail: detail, Value: value}}
	}
	want := []report.RefusedRecords{
		refused("wrong_type", 2, 7, `t is "soon"; want a number of milliseconds since 1970, within the years 1678 to 2261`, `{"k":"a","t":"soon"}`),
		refused("not_json", 2, 8, "at byte 0", "?"),
		refused("tombstone", 1, 1, "", ""),
		refused("too_far_ahead", 1, 2, "event time "+stamp(kafkaTime+3_600_001)+", record timestamp "+stamp(kafkaTime),
			string(eventAt(2, "a", kafkaTime+3_600_001, 1).Value)),
		refused("jump", 1, 4, "event time "+stamp(early+600_001)+", greatest event time before it "+stamp(early),
			string(eventAt(4, "a", early+600_001, 1).Value)),
		refused("too_far_past", 1, 5, "event time "+stamp(early-3_600_001)+", record timestamp "+stamp(kafkaTime),
			string(eventAt(5, "a", early-3_600_001, 1).Value)),
	}
	require.ElementsMatch(t, want, got)
	require.Equal(t, int64(2), got[0].Count, "the most frequent first")

	s.Fold(batch(record(9, long)))
	for _, r := range s.Refused() {
		require.LessOrEqual(t, len(r.Last.Value), shownValue+len("..."))
		require.LessOrEqual(t, len(r.Last.Detail), shownDetail+len("..."))
		require.True(t, utf8.ValidString(r.Last.Value))
	}
}

// A lane that refuses everything says so in one line, with what is likely wrong.
func TestALaneThatRefusesEverythingSaysWhy(t *testing.T) {
	const now = int64(1_795_900_000_000) // 2026-11-28T21:06:40Z
	program := func(unit string) *Program {
		text := strings.Replace(testSpec, "unit: ms}\n  max_future: 1h", "unit: "+unit+"}\n  max_future: 1h\n  max_past: 365d", 1)
		s, err := spec.Parse("orders.yaml", []byte(text))
		require.NoError(t, err)
		p, err := Compile(s)
		require.NoError(t, err)
		return p
	}
	at := func(timestamp int64, value string) source.Record {
		return source.Record{Timestamp: timestamp, Value: []byte(value)}
	}
	for _, tt := range []struct {
		name, unit string
		record     source.Record
		want       string
	}{
		{"timestamps in seconds", "ms", at(now/1000, `{"k":"a","t":1795900000000,"v":1}`),
			"100 of 100 records are too far ahead: event time 2026-11-28T21:06:40Z, but the record's Kafka timestamp is 1970-01-21T18:51:40Z: " +
				"is the producer's timestamp in seconds? Let it send milliseconds, or set message.timestamp.type=LogAppendTime on the topic"},
		{"no timestamps", "ms", at(-1, `{"k":"a","t":1795900000000,"v":1}`),
			"100 of 100 records are too far ahead: event time 2026-11-28T21:06:40Z, but the record's Kafka timestamp is 1969-12-31T23:59:59.999Z: " +
				"does the producer set a timestamp? Let it send one in milliseconds, or set message.timestamp.type=LogAppendTime on the topic"},
		{"event times in seconds", "ms", at(now, `{"k":"a","t":1795900000,"v":1}`),
			"100 of 100 records are too far in the past: event time 1970-01-21T18:51:40Z, " +
				"but the record's Kafka timestamp is 2026-11-28T21:06:40Z: " +
				"is the event time in seconds? Set event.time.unit: s"},
		{"event times in milliseconds", "s", at(now, `{"k":"a","t":1795900000000,"v":1}`),
			"100 of 100 records are refused: bad_time: t is 1795900000000; want a number of seconds since 1970, within the years 1678 to 2261: " +
				"is the event time in milliseconds? Set event.time.unit: ms"},
		{"event times in nanoseconds", "us", at(now, `{"k":"a","t":1795900000000000000,"v":1}`),
			"100 of 100 records are refused: bad_time: t is 1795900000000000000; want a number of microseconds since 1970, " +
				"within the years 1678 to 2261: " +
				"is the event time in nanoseconds? Set event.time.unit: ns"},
		{"heartbeats", "ms", at(now, "ping"), "100 of 100 records are refused: not_json: at byte 0"},
		{"tombstones", "ms", source.Record{Timestamp: now}, "100 of 100 records are refused: tombstone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewState(program(tt.unit), testLane, "id", 0, store.Cursor{})
			for i := range int64(firstRefused) {
				require.Empty(t, s.RefusesAll())
				r := tt.record
				r.Offset = i
				s.Fold(batch(r))
			}
			require.Equal(t, tt.want, s.RefusesAll())
			good := at(now, `{"k":"a","t":1795900000000,"v":1}`)
			if tt.unit != "ms" {
				return
			}
			good.Offset = firstRefused
			s.Fold(batch(good))
			require.Empty(t, s.RefusesAll(), "one that is not refused ends it")
		})
	}
}

// Refused records cost memory once per reason, without a dead-letter topic.
func TestRefusingAllocatesNothingOfItsOwn(t *testing.T) {
	text := strings.Replace(testSpec, "dead_letter: {kafka: {topic: orders.dead}}\n", "", 1)
	sp, err := spec.Parse("orders.yaml", []byte(text))
	require.NoError(t, err)
	p, err := Compile(sp)
	require.NoError(t, err)
	s := NewState(p, testLane, "id", 0, store.Cursor{})
	next := int64(0)
	b := batch(eventAt(0, "a", kafkaTime+7_200_000, 1))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b.Records[0].Offset, b.Next = next, next+1
		next++
		s.Fold(b)
	}))
}
