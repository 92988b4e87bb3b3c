package lane

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// smallTopic takes only records of at most most bytes.
type smallTopic struct {
	sideLog
	most int
}

func (s *smallTopic) Send(ctx context.Context, records []source.SideRecord) error {
	for _, r := range records {
		size := len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			if h.Key != HeaderCut {
				size += len(h.Value)
			}
		}
		if size > s.most {
			return source.ErrRecordTooLarge
		}
	}
	return s.sideLog.Send(ctx, records)
}

func TestRecordTooLargeForItsTopicIsCut(t *testing.T) {
	side := func(key, value int) source.SideRecord {
		return source.SideRecord{Topic: "t", Key: []byte(strings.Repeat("k", key)), Value: []byte(strings.Repeat("v", value))}
	}
	topic := &smallTopic{most: 10_000}
	records := []source.SideRecord{side(3, 10), side(5000, 100_000), side(3, 9_997), side(20_000, 7)}
	require.NoError(t, sendFitting(context.Background(), topic, records))
	require.Len(t, topic.records, 4)
	for i, want := range []struct {
		key, value int
		cut        string
	}{{3, 10, ""}, {2500, 6250, "5000,100000"}, {3, 9_997, ""}, {5000, 7, "20000,7"}} {
		got := topic.records[i]
		require.LessOrEqual(t, len(got.Key)+len(got.Value), 10_000)
		require.Equal(t, want.cut, headerOf(got, HeaderCut))
		if want.cut == "" {
			require.Equal(t, []int{want.key, want.value}, []int{len(got.Key), len(got.Value)})
		}
	}
	require.ErrorIs(t, sendFitting(context.Background(), &smallTopic{most: 1}, []source.SideRecord{side(1, 5000)}), source.ErrRecordTooLarge)
	named := side(3, 10)
	named.Headers = []source.Header{{Key: "mr-reason", Value: []byte("late")}, {Key: "mr-windows", Value: []byte(strings.Repeat("w@", 45_000))}}
	narrow := &smallTopic{most: 1000}
	require.NoError(t, sendFitting(context.Background(), narrow, []source.SideRecord{named}), "long headers are cut as well")
	require.Equal(t, "late", headerOf(narrow.records[0], "mr-reason"))
	require.True(t, strings.HasSuffix(headerOf(narrow.records[0], "mr-windows"), "@..."))
	require.Equal(t, []int{3, 10}, []int{len(narrow.records[0].Key), len(narrow.records[0].Value)})
	away := errors.New("away")
	require.ErrorIs(t, sendFitting(context.Background(), &sideLog{fail: away}, records), away)
}

// What a filter reports may quote a text as long as the record, which then would no longer fit beside it.
func TestDetailOfADeadLetterIsShort(t *testing.T) {
	state := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s := &state.sides
	for _, n := range []int{10, maxDetail, 100_000} {
		state.refuseInvalid(&source.Record{Value: []byte("{}")}, errors.New(strings.Repeat("é", n/2)))
		got := headerOf(s.take()[0], "mr-detail")
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), maxDetail+len("..."))
		require.Equal(t, n > maxDetail, strings.HasSuffix(got, "..."))
	}
	state.refuseInvalid(&source.Record{}, errors.New("x"+strings.Repeat("é", maxDetail)))
	require.True(t, utf8.ValidString(headerOf(s.take()[0], "mr-detail")), "a character is not cut apart")
}

// The names of many windows are most of a late record, and count as memory.
func TestHeadersOfSideRecordsCountAsMemory(t *testing.T) {
	s := sides{id: testLane, lateTopic: "late"}
	names := strings.Repeat("window@2024-01-01T00:00:00Z,", 1000)
	s.add("late", &source.Record{Key: []byte("k"), Value: []byte("v")}, ReasonLate, header{"mr-windows", names})
	require.Greater(t, s.bytes, len(names))
	s.take()
	require.Zero(t, s.bytes)
}

// A record that is late for a thousand windows does not take a thousand times its size.
func TestMissedWindowsAreNamedUpToALimit(t *testing.T) {
	name := strings.Repeat("w", 64)
	s := sides{id: testLane, lateTopic: "late", windows: []spec.Window{{Name: name}}}
	missed := make([]window.Ref, 1000)
	for i := range missed {
		missed[i].Start = int64(i) * 1000
	}
	one := name + "@1970-01-01T00:00:00Z"
	require.Equal(t, one, s.missedNames(missed[:1]))
	fitting := (maxNames + 1) / (len(one) + 1)
	all := s.missedNames(missed[:fitting])
	require.Equal(t, fitting, strings.Count(all, "@"))
	require.Equal(t, all+",...", s.missedNames(missed[:fitting+1]))
	require.Equal(t, all+",...", s.missedNames(missed))
}
