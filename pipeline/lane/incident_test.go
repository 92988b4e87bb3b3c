package lane

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// What an incident says is for people: neither the metadata of the group's offset as they are, nor the lane twice.
func TestIncidentsArePlain(t *testing.T) {
	empty := position{
		meta: store.Meta{Offset: -1}, ends: source.Ends{HighWatermark: 200}, topicRef: source.TopicPartition{Topic: "in", Partition: 3},
	}
	replay := fold.Replay{From: 100, Basis: store.Basis{Known: true, Watermark: 1_704_067_200_000, Sealed: none}, TopicID: "id"}
	for _, c := range []struct {
		name string
		hint string
		loss error
		want string
	}{
		{
			name: "with a way back", hint: replay.String(),
			want: "Redis holds no state of in/3, but the consumer group has committed offset 120 " +
				"(a rebuild begins at offset 100, under the watermark 2024-01-01T00:00:00Z); restore Redis from its backup, or decide",
		},
		{
			name: "before any watermark", hint: fold.Replay{From: 100, Basis: store.Basis{Known: true, Watermark: none, Sealed: none}}.String(),
			want: "Redis holds no state of in/3, but the consumer group has committed offset 120 " +
				"(a rebuild begins at offset 100, before any watermark); restore Redis from its backup, or decide",
		},
		{
			name: "of an older release", hint: "v1 watermark=7",
			want: "Redis holds no state of in/3, but the consumer group has committed offset 120; restore Redis from its backup, or decide",
		},
		{
			name: "a part is gone", loss: fmt.Errorf("restore lane orders/in/3: %w", fmt.Errorf("lane orders/in/3: %w: it folded 5 events", store.ErrPartialLoss)),
			want: "part of the lane's state is gone from redis: it folded 5 events; the server evicts keys " +
				"(its maxmemory-policy must be noeviction) or somebody deleted them: restore Redis from its backup, or decide",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := empty
			at.loss, at.hint = c.loss, source.Committed{Offset: 120, Metadata: c.hint}
			_, inc := at.check()
			require.Equal(t, c.want, inc.Detail)
		})
	}
	var corrupt *report.Incident
	require.ErrorAs(t, lossIncident(fmt.Errorf("restore lane orders/in/3: slice 7: %w", store.ErrCorrupt)), &corrupt)
	require.Equal(t, "slice 7: "+store.ErrCorrupt.Error(), corrupt.Detail)
	for _, whole := range []string{"lane is parked: no", "restore lane: x", "lane orders/in/3 is not in Redis", "x: lane orders/in/3: y"} {
		require.Equal(t, whole, withoutLane(errors.New(whole)))
	}
}

// Where a part of the state is gone and the topic was made again as well, it is the new log that decides: reading it again
// up to where the old one was read would mean nothing.
func TestPartialLossOfAnotherLog(t *testing.T) {
	at := position{
		meta: store.Meta{Offset: 120, TopicID: "old"}, topicID: "new", ends: source.Ends{HighWatermark: 200},
		loss: store.ErrPartialLoss, hint: source.Committed{Offset: -1}, topicRef: source.TopicPartition{Topic: "in", Partition: 3},
	}
	_, inc := at.check()
	require.Equal(t, report.IncidentOtherLog, inc.Kind)
	at.topicID = "old"
	_, inc = at.check()
	require.Equal(t, report.IncidentStateLost, inc.Kind)
}
