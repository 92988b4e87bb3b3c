package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// The ledger says which edition comes next. While rows of the pipeline stay in a topic that another one writes too, the next
// edition must not begin at 1 again: its first revisions would be taken for older ones than those rows.
func TestLedgerStaysWithItsResults(t *testing.T) {
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	cluster, err := source.NewCluster(t.Context(), source.Config{Brokers: []string{broker.Addr()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	for _, topic := range []string{ledger.Topic("p"), "shared", "late"} {
		_, err = cluster.EnsureTopic(t.Context(), source.TopicSpec{Name: topic})
		require.NoError(t, err)
	}
	own := &spec.Spec{
		Name: "p", Source: spec.Source{Topics: []string{"in"}},
		Results: spec.Sink{Kafka: &spec.KafkaSink{Topic: "shared"}}, Late: spec.Sink{Kafka: &spec.KafkaSink{Topic: "late"}},
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
			topics, err := remains{cluster: cluster}.Topics(t.Context(), "p", own, []*spec.Spec{&tt.other}, func(int64) {})
			require.NoError(t, err)
			require.Len(t, topics, 3)
			var stays []string
			for _, topic := range topics {
				if !topic.Delete {
					stays = append(stays, topic.Topic)
				}
				if topic.Role == contract.RoleLedger && !topic.Delete {
					require.Equal(t, "it says which edition the rows in topic shared are of, which stays: pipeline other writes it", topic.Why)
				}
			}
			require.Equal(t, tt.stays, stays)
		})
	}
}
