package verify

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// checkStates looks whether the states topic holds one state for every key of each revision whose row names states. It is
// read only when there is such a row.
func (v *Report) checkStates(ctx context.Context, cfg *Config, l *ledgerTopic) error {
	named := make(map[revisionID]ledger.Row)
	for id, s := range l.windows {
		for revision, row := range s.rows {
			if row.States != nil {
				named[revisionID{id, revision}] = row
			}
		}
	}
	if len(named) == 0 {
		return nil
	}
	topic := ledger.StatesTopic(cfg.Spec.Name)
	partitions, err := cfg.Kafka.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("partitions of topic %s: %w", topic, err)
	}
	found := make(map[revisionID]int64)
	seen := make(map[uint64]struct{})
	for _, p := range partitions {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		_, err := cfg.Kafka.ReadCommitted(ctx, tp, 0, func(r source.Record) error {
			var state ledger.StateRow
			if err := json.Unmarshal(r.Value, &state); err != nil {
				return fmt.Errorf("%s, offset %d: %w", tp, r.Offset, err)
			}
			id := revisionID{ledger.WindowID{Window: state.Window, Start: state.Start}, state.Revision}
			row, ok := named[id]
			if !ok || max(state.Edition, ledger.Edition) != row.Edition {
				return nil
			}
			hash := rowHash(id, state.Key)
			if _, twice := seen[hash]; twice {
				v.revisionProblem(ProblemResults, id, "the state of key %s of revision %d stands twice", state.Key, state.Revision)
			}
			seen[hash] = struct{}{}
			found[id]++
			return nil
		})
		if err != nil {
			return err
		}
	}
	starts, err := logStarts(ctx, cfg.Kafka, topic)
	if err != nil {
		return err
	}
	for id, row := range named {
		if n := found[id]; n > row.Keys || n < row.Keys && !isCut(*row.States, starts) {
			v.revisionProblem(ProblemResults, id, "revision %d has %d keys and states of %d of them", id.revision, row.Keys, n)
		}
	}
	return nil
}
