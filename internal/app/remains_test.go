package app

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// The ledger says which edition comes next. While rows of the pipeline stay in a topic that another one writes too, the next
// edition must not begin at 1 again: its first revisions would be taken for older ones than those rows.
func TestLedgerStaysWithItsResults(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{Name: ledger.Topic("p")}, source.TopicSpec{Name: "shared"}, source.TopicSpec{Name: "late"})
	own := &spec.Spec{
		Name: "p", Source: spec.Source{Topics: []string{"in"}},
		Results: spec.Results{Sink: spec.Sink{Kafka: &spec.KafkaSink{Topic: "shared"}}}, Late: spec.Sink{Kafka: &spec.KafkaSink{Topic: "late"}},
	}
	for _, tt := range []struct {
		name  string
		other spec.Spec
		stays []string
	}{
		{"nobody else", spec.Spec{Name: "other"}, nil},
		{"shared results", spec.Spec{Name: "other", Results: own.Results}, []string{ledger.Topic("p"), "shared"}},
		{"shared late events", spec.Spec{Name: "other", Late: own.Late}, []string{"late"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topics, err := remains{cluster: cluster}.Topics(t.Context(), "p", own, []activities.Other{{Spec: &tt.other}}, func(int64) {})
			require.NoError(t, err)
			require.Len(t, topics, 3)
			var stays []string
			for _, topic := range topics {
				if !topic.Delete {
					stays = append(stays, topic.Topic)
				}
				if topic.Role == contract.RoleLedger && !topic.Delete {
					require.Equal(t, "it says which edition the rows in topic shared are of, which stays: pipeline other writes it",
						topic.Why)
				}
			}
			require.Equal(t, tt.stays, stays)
		})
	}
}

// The states topic is the pipeline's own, when it has roll-ups: a topic of that name may be another one's.
func TestStatesTopicGoesWithItsPipeline(t *testing.T) {
	states := ledger.StatesTopic("p")
	_, cluster := startKafka(t, source.TopicSpec{Name: ledger.Topic("p")}, source.TopicSpec{Name: states})
	own := &spec.Spec{Name: "p", Source: spec.Source{Topics: []string{"in"}}}
	other := activities.Other{Spec: &spec.Spec{Name: "q", Results: spec.Results{Sink: spec.Sink{Kafka: &spec.KafkaSink{Topic: states}}}}}
	role := func(others ...activities.Other) *contract.TopicRemains {
		topics, err := remains{cluster: cluster}.Topics(t.Context(), "p", own, others, func(int64) {})
		require.NoError(t, err)
		for i := range topics {
			if topics[i].Topic == states {
				return &topics[i]
			}
		}
		return nil
	}
	require.Nil(t, role())
	own.Rollups = []spec.Rollup{{Name: "daily", From: "hourly"}}
	require.Equal(t, &contract.TopicRemains{Topic: states, Role: contract.RoleStates, Delete: true}, role())
	require.Equal(t, "pipeline q writes it", role(other).Why)
}

// What a removal has ended names no topic any more, though its rows still stand in the log of the ledger.
func TestALedgerThatWasEndedNamesNothing(t *testing.T) {
	cfg, cluster := startKafka(t, source.TopicSpec{Name: ledger.Topic("p"), Partitions: 2},
		source.TopicSpec{Name: ledger.Topic("q"), Partitions: 2}, source.TopicSpec{Name: "shared"})
	r := remains{cluster: cluster, kafka: cfg}
	say := func(pipeline string, slot int32, key []byte, record any) {
		t.Helper()
		text, err := json.Marshal(record)
		require.NoError(t, err)
		producer, err := publish.NewClient(cfg, cluster, pipeline).Open(t.Context(), int(slot))
		require.NoError(t, err)
		require.NoError(t, producer.Begin())
		rec := publish.Record{Topic: ledger.Topic(pipeline), Partition: slot, Key: key, Value: text}
		require.NoError(t, publish.Send(t.Context(), producer, []publish.Record{rec}))
		require.NoError(t, producer.Commit())
		require.NoError(t, producer.Close())
	}
	publish := func(pipeline string, slot int32, edition int) {
		t.Helper()
		row := ledger.Row{Version: ledger.RowVersion, Pipeline: pipeline, Window: "w", Edition: edition, Revision: 1, PublishedTo: "shared"}
		say(pipeline, slot, row.ID().Key(), row)
	}
	end := func(pipeline string, slot int32, edition int) {
		t.Helper()
		e := ledger.Ended{Pipeline: pipeline, Edition: edition}
		say(pipeline, slot, e.Key(), e)
	}
	// topics says which topics stay, and whether the ledger has been ended.
	topics := func(pipeline string) (stays []string, ended bool) {
		t.Helper()
		list, err := r.Topics(t.Context(), pipeline, nil, nil, func(int64) {})
		require.NoError(t, err)
		for _, topic := range list {
			if !topic.Delete {
				stays = append(stays, topic.Topic)
			}
			ended = ended || topic.Ended
		}
		return stays, ended
	}
	_, ended := topics("p")
	require.True(t, ended, "nothing was ever written")
	publish("p", 0, 1)
	publish("q", 1, 1)
	stays, ended := topics("p")
	require.Equal(t, []string{ledger.Topic("p"), "shared"}, stays)
	require.False(t, ended)
	end("q", 1, 1)
	stays, _ = topics("p")
	require.Empty(t, stays)
	publish("q", 1, 2)
	stays, _ = topics("p")
	require.Len(t, stays, 2, "it was started again")
	end("p", 0, 1)
	_, ended = topics("p")
	require.False(t, ended, "the other slot was not reached")
	end("p", 1, 1)
	_, ended = topics("p")
	require.True(t, ended)
}

// Lanes that a removal has fenced and not finished are counted: nothing else tells that the pipeline is half gone.
func TestFencedLanesAreCounted(t *testing.T) {
	server, state := startRedis(t)
	r := remains{store: state}
	for n := range int32(3) {
		_, _, err := r.store.Acquire(t.Context(), store.LaneID{Pipeline: "p", Topic: "in", Partition: n}, "s", "", "1:aa")
		require.NoError(t, err)
	}
	_, err := r.store.Fence(t.Context(), store.LaneID{Pipeline: "p", Topic: "in", Partition: 1}, "removed:x")
	require.NoError(t, err)
	server.HSet("mr:{p/in/2}:meta", "format", "99")
	keys, lanes, err := r.Count(t.Context(), "p", func(int64) {})
	require.NoError(t, err)
	require.EqualValues(t, 3, keys[0].Keys)
	require.Equal(t, activities.LaneCount{Lanes: 3, Fenced: 1}, lanes)
}

// Another pipeline's topics stay, and it is said how that pipeline stands.
func TestWhoKeepsATopic(t *testing.T) {
	r := remains{}
	own := &spec.Spec{Name: "p", Source: spec.Source{Topics: []string{"in"}}}
	other := activities.Other{Spec: &spec.Spec{Name: "q", Source: spec.Source{Topics: []string{"out"}}}, Standing: "stopped, not removed"}
	roles := map[string]string{"out": contract.RoleResults}
	kept, err := r.namedElsewhere(t.Context(), "p", own, []activities.Other{other}, nil, roles, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"out": "pipeline q (stopped, not removed) reads it"}, kept)
}
