package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// statesTopic is what the states topic holds of the revisions whose rows link to it.
type statesTopic struct {
	named  map[revisionID]ledger.Row                // rows with states
	linked map[revisionID]int                       // edition of the revisions that such rows link to
	counts map[revisionID]int64                     // states of each of these
	keys   map[ledger.WindowID]map[uint64][]stateOf // of windows of which a revision published what it changed; by key
}

// stateOf is what a revision says of the state of a key.
type stateOf struct {
	revision int
	deleted  bool
}

// checkStates looks whether the states topic holds one state for every key of each revision whose row names states. It is
// read only when there is such a row.
func (v *Report) checkStates(ctx context.Context, cfg *Config, l *ledgerTopic) error {
	s := newStatesTopic(l)
	if len(s.named) == 0 {
		return nil
	}
	topic := ledger.StatesTopic(cfg.Spec.Name)
	partitions, err := cfg.Kafka.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("partitions of topic %s: %w", topic, err)
	}
	seen := make(map[uint64]struct{})
	for _, p := range partitions {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		_, err := cfg.Kafka.ReadCommitted(ctx, tp, 0, func(r source.Record) error {
			var state ledger.StateRow
			if err := json.Unmarshal(r.Value, &state); err != nil {
				return fmt.Errorf("%s, offset %d: %w", tp, r.Offset, err)
			}
			id := revisionID{ledger.WindowID{Window: state.Window, Start: state.Start}, state.Revision}
			if edition, ok := s.linked[id]; !ok || max(state.Edition, ledger.Edition) != edition {
				return nil
			}
			hash := rowHash(id, state.Key)
			if _, twice := seen[hash]; twice {
				v.revisionProblem(ProblemResults, id, "the state of key %s of revision %d stands twice", state.Key, state.Revision)
			}
			seen[hash] = struct{}{}
			s.add(id, &state)
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
	for id, row := range s.named {
		n := s.count(id, &row)
		cut := slices.ContainsFunc(row.States, func(link ledger.Link) bool { return isCut(link, starts) })
		if n != row.Keys && !cut || n > row.Keys && len(row.States) == 1 {
			v.revisionProblem(ProblemResults, id, "revision %d has %d keys and states of %d of them", id.revision, row.Keys, n)
		}
	}
	return nil
}

func newStatesTopic(l *ledgerTopic) *statesTopic {
	s := &statesTopic{
		named: make(map[revisionID]ledger.Row), linked: make(map[revisionID]int), counts: make(map[revisionID]int64),
		keys: make(map[ledger.WindowID]map[uint64][]stateOf),
	}
	for id, of := range l.windows {
		for revision, row := range of.rows {
			if len(row.States) == 0 {
				continue
			}
			s.named[revisionID{id, revision}] = row
			for _, link := range row.States {
				s.linked[revisionID{id, link.Revision}] = row.Edition
			}
			if len(row.States) > 1 && s.keys[id] == nil {
				s.keys[id] = make(map[uint64][]stateOf)
			}
		}
	}
	return s
}

func (s *statesTopic) add(id revisionID, state *ledger.StateRow) {
	s.counts[id]++
	if keys := s.keys[id.WindowID]; keys != nil {
		hash := rowHash(revisionID{WindowID: id.WindowID}, state.Key)
		keys[hash] = append(keys[hash], stateOf{state.Revision, state.Deleted})
	}
}

// count is how many keys have a state in the revisions that a row links to.
func (s *statesTopic) count(id revisionID, row *ledger.Row) (n int64) {
	if len(row.States) == 1 {
		return s.counts[revisionID{id.WindowID, row.States[0].Revision}]
	}
	for _, all := range s.keys[id.WindowID] {
		last := stateOf{}
		for _, of := range all {
			if of.revision >= last.revision && of.revision >= row.States[0].Revision && of.revision <= id.revision {
				last = of
			}
		}
		if last.revision > 0 && !last.deleted {
			n++
		}
	}
	return n
}
