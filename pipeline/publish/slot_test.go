package publish

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// ledgerLog is a ledger partition of final windows, one hour each.
type ledgerLog struct {
	Kafka
	rows  []ledger.Row
	reads int
}

func (l *ledgerLog) ReadCommitted(_ context.Context, _ source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	l.reads++
	for i := from; i < int64(len(l.rows)); i++ {
		text, err := l.rows[i].MarshalJSON()
		if err != nil {
			return i, err
		}
		if err := fn(source.Record{Offset: i, Value: text}); err != nil {
			return i, err
		}
	}
	return int64(len(l.rows)), nil
}

func (l *ledgerLog) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	end := int64(len(l.rows))
	return map[source.TopicPartition]source.Ends{tps[0]: {End: end, HighWatermark: end}}, nil
}

func (l *ledgerLog) Open(context.Context, int) (Producer, error) { return noProducer{}, nil }

type noProducer struct{ Producer }

func (noProducer) Close() error { return nil }

func TestSlotForgetsOldFinalWindowsAndFindsThemAgain(t *testing.T) {
	const hour = 3_600_000
	log := &ledgerLog{}
	for i := range int64(3 * maxFinals) {
		log.rows = append(log.rows, ledger.Row{Window: "w", Start: i * hour, End: (i + 1) * hour, Revision: 2, Final: i != 5})
	}
	s := &New(Config{Pipeline: "p", Kafka: log, Now: time.Now}).held
	ctx := t.Context()
	require.NoError(t, s.TakeOver(ctx))
	require.LessOrEqual(t, s.index.whole, maxFinals)
	require.Len(t, s.index.entries, 3*maxFinals)

	for _, c := range []struct {
		name  string
		hour  int64
		known bool
		reads int
	}{
		{"open windows stay", 5, true, 0},
		{"the latest stay", 3*maxFinals - 1, true, 0},
		{"a new window", 3 * maxFinals, false, 0},
		{"forgotten", 1, true, 1},
		{"old and never published", -7, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := log.reads
			row, err := s.LatestRow(ctx, ledger.WindowID{Window: "w", Start: c.hour * hour})
			require.NoError(t, err)
			require.Equal(t, c.known, row != nil)
			require.Equal(t, c.reads, log.reads-before)
		})
	}
}

func TestSlotReadsOnAfterAFailure(t *testing.T) {
	log := &ledgerLog{rows: []ledger.Row{{Window: "w", Revision: 1}}}
	s := &New(Config{Pipeline: "p", Kafka: log, Now: time.Now}).held
	require.NoError(t, s.TakeOver(t.Context()))
	s.GiveUpProducer()
	log.rows = append(log.rows, ledger.Row{Window: "w", Revision: 2})
	require.Equal(t, 1, s.index.entries[ledger.WindowID{Window: "w", Start: 0}].revision)
	require.NoError(t, s.TakeOver(t.Context()))
	require.Equal(t, 2, s.index.entries[ledger.WindowID{Window: "w", Start: 0}].revision)
	require.Equal(t, int64(2), s.next)
}
