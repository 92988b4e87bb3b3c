package app

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
)

func TestHealthOfAProcess(t *testing.T) {
	well := contract.Standing{Line: contract.StateRunning, Healthy: true}
	suspended := contract.Standing{
		Line: "running, but no window closes", Healthy: true, Conditions: []contract.Condition{{Kind: contract.ConditionClosingSuspended}},
	}
	stalled := contract.Standing{Line: "stalled", Conditions: []contract.Condition{{Kind: contract.ConditionHeld}}}
	away := errors.New("Temporal at temporal:7233 does not answer: EOF")
	tests := []struct {
		name      string
		notReady  error
		pipelines map[string]contract.Standing
		line      string
		healthy   bool
	}{
		{"nothing runs here", nil, nil, "ok", true},
		{"all is well", nil, map[string]contract.Standing{"a": well, "b": well}, "ok", true},
		{"on purpose", nil, map[string]contract.Standing{"a": well, "b": suspended, "c": suspended},
			"ok; b: running, but no window closes; and 1 more", true},
		{"trouble", nil, map[string]contract.Standing{"a": suspended, "b": stalled, "c": stalled}, "b: stalled; and 1 more", false},
		{"Temporal is away", away, map[string]contract.Standing{"a": well}, away.Error(), false},
		{"Temporal is away, and trouble", away, map[string]contract.Standing{"a": stalled}, "a: stalled; and 1 more", false},
		{"it ends", errors.New(whyStopping), nil, "this worker is stopping", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			whole := wholeProcess(tt.notReady, tt.pipelines)
			require.Equal(t, tt.line, whole.Line)
			require.Equal(t, tt.healthy, whole.Healthy)
			require.Equal(t, errors.Is(tt.notReady, away), slices.ContainsFunc(whole.Conditions, func(c contract.Condition) bool {
				return c.Kind == contract.ConditionTemporalAway
			}), "%+v", whole)
		})
	}
}
