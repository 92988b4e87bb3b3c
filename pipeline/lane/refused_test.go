package lane

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/source"
)

// firstRefused is how many records a lane reads before it warns that all of them were refused.
const firstRefused = 100

func TestStatusTellsOfRefusedRecords(t *testing.T) {
	log := make([]source.Record, firstRefused)
	for i := range log {
		log[i] = record(int64(i), "ping")
	}
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "warned", func(s Status) bool { return s.State == StateRunning && s.Reason != "" })
	b.wait(t, "listed", func(s Status) bool { return len(s.Refused) == 1 && s.Refused[0].Count == firstRefused })
	s := b.Status()
	require.Equal(t, "100 of 100 records are refused: not_json: at byte 0", s.Reason)
	require.Equal(t, report.RefusedRecords{Reason: "not_json", Count: firstRefused,
		Last: &report.RefusedRecord{Offset: firstRefused - 1, Detail: "at byte 0", Value: "ping"}}, s.Refused[0])
	require.WithinDuration(t, time.Now(), s.UpdatedAt, time.Minute)
}
