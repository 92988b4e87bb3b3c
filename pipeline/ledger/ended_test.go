package ledger

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
)

func TestEndedRecord(t *testing.T) {
	tp := source.TopicPartition{Topic: "flights.ledger", Partition: 3}
	end := Ended{Pipeline: "flights", Edition: 2, EndedAt: 978310860000}
	text, err := json.Marshal(end)
	require.NoError(t, err)
	require.Equal(t, `{"type":"ended","version":2,"pipeline":"flights","edition":2,"ended_at":"2001-01-01T01:01:00Z"}`, string(text))
	require.Equal(t, `{"ended":true}`, string(end.Key()))
	rec, err := ParseRecord(tp, source.Record{Offset: 7, Key: end.Key(), Value: text})
	require.NoError(t, err)
	require.Equal(t, Record{Type: TypeEnded, Ended: &end, Partition: 3, Offset: 7}, rec)
	_, err = ParseRecord(tp, source.Record{Value: []byte(`{"type":"ended","version":9}`)})
	var later *VersionError
	require.True(t, errors.As(err, &later))
}
