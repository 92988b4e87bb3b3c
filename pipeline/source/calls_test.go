package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/measure"
)

func TestOutcomesOfCalls(t *testing.T) {
	tests := []struct {
		err  error
		want measure.Outcome
	}{
		{nil, measure.OK},
		{fmt.Errorf("broker b: %w", sarama.ErrNotLeaderForPartition), measure.Refused},
		{sarama.ErrTopicAuthorizationFailed, measure.Refused},
		{sarama.ErrRequestTimedOut, measure.Timeout},
		{fmt.Errorf("broker b: %w", os.ErrDeadlineExceeded), measure.Timeout},
		{context.DeadlineExceeded, measure.Timeout},
		{errors.New("connection reset"), measure.Failed},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.err), func(t *testing.T) {
			p := measure.NewProcess()
			cfg := Config{Calls: p.CallsTo("kafka")}
			cfg.CountCall("fetch", time.Now(), tt.err)
			require.Contains(t, p.Calls.All(), measure.Call{Server: "kafka", Operation: "fetch", Outcome: tt.want})
		})
	}
	p := measure.NewProcess()
	cfg := Config{Calls: p.CallsTo("kafka")}
	cfg.CountCall("fetch", time.Now(), context.Canceled)
	require.Empty(t, p.Calls.All(), "its caller gave it up")
}

func TestSuccessAllocatesNothing(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() { outcomeOf(nil) }))
}
