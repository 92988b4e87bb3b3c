package deliver

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
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
