package cli

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
)

func TestPhaseLineNamesWhatFails(t *testing.T) {
	pending := []contract.Pending{
		{For: "Redis", Since: noon},
		{For: "Kafka", Since: noon, Why: "it does not answer", Then: "the run fails"},
	}
	require.Equal(t, "reading", phaseLine("reading", "", nil))
	require.Equal(t, "reading: lane 3; waits for Kafka since 2026-01-01T12:00:00Z: it does not answer; then the run fails",
		phaseLine("reading", "lane 3", pending))
}

func TestChangesArePrintedOnce(t *testing.T) {
	var b bytes.Buffer
	var c changes
	for _, line := range []string{"one", "one", "two", "one"} {
		c.print(&b, line)
	}
	require.Equal(t, "one\ntwo\none\n", b.String())
}

func TestExplainEnd(t *testing.T) {
	interrupted, cancelled := errors.New("interrupted"), errors.New("cancelled")
	explain := func(ctx context.Context, err error) error {
		return explainEnd(ctx, "replay:p:1", err, interrupted, cancelled)
	}
	require.Equal(t, cancelled, explain(t.Context(), temporal.NewCanceledError()))
	require.EqualError(t, explain(t.Context(), temporal.NewApplicationError("no log", "T")), "no log")
	require.ErrorContains(t, explain(t.Context(), serviceerror.NewUnavailable("down")), "Temporal does not answer")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, interrupted, explain(gone, temporal.NewCanceledError()))
}

func TestLatestOf(t *testing.T) {
	row := func(window string, hour int) ledger.Row {
		return ledger.Row{Window: window, Start: firstHour.Add(time.Duration(hour) * time.Hour).UnixMilli()}
	}
	all := func() []ledger.Row { return []ledger.Row{row("w", 2), row("v", 3), row("w", 0), row("w", 1)} }
	require.Equal(t, all(), latestOf(listFilter{}, all(), (*ledger.Row).ID))
	require.Equal(t, []ledger.Row{row("w", 2), row("w", 0), row("w", 1)}, latestOf(listFilter{window: "w"}, all(), (*ledger.Row).ID))
	require.Equal(t, []ledger.Row{row("w", 1), row("w", 2)}, latestOf(listFilter{window: "w", last: 2}, all(), (*ledger.Row).ID))
}
