package verify

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
)

// ledgerState is what the ledger topic says about one window.
type ledgerState struct {
	last ledger.Row
	rows map[int]ledger.Row // by revision, as far as compaction left them; of a revision the last
}

func (v *Report) checkLedger(ctx context.Context, cfg *Config) (map[ledger.WindowID]*ledgerState, error) {
	windows := make(map[ledger.WindowID]*ledgerState)
	err := ledger.Read(ctx, cfg.Kafka, cfg.Spec.Name, func(rec ledger.Record) error {
		if rec.Ended != nil { // what an earlier edition published in this slot binds nobody
			maps.DeleteFunc(windows, func(id ledger.WindowID, _ *ledgerState) bool { return id.Slot(cfg.Slots) == int(rec.Partition) })
		}
		if rec.Row == nil {
			return nil
		}
		e := *rec.Row
		id := e.ID()
		if want := id.Slot(cfg.Slots); int(rec.Partition) != want {
			v.problem(ProblemLedger, id.String(), "a row stands in partition %d, its slot is %d", rec.Partition, want)
		}
		s, ok := windows[id]
		if !ok {
			windows[id] = &ledgerState{last: e, rows: map[int]ledger.Row{e.Revision: e}}
			return nil
		}
		switch last := s.last; {
		case e.Revision < last.Revision:
			v.problem(ProblemLedger, id.String(), "revision %d follows revision %d", e.Revision, last.Revision)
		case e.Revision == last.Revision && e.Checksum != last.Checksum:
			v.problem(ProblemLedger, id.String(), "revision %d has checksums %s and %s", e.Revision, last.Checksum, e.Checksum)
		case e.Revision > last.Revision && e.Checksum == last.Checksum:
			v.problem(ProblemLedger, id.String(), "revisions %d and %d have the same content", last.Revision, e.Revision)
		case last.Final:
			v.problem(ProblemLedger, id.String(), "revision %d follows the final one", e.Revision)
		}
		s.last, s.rows[e.Revision] = e, e
		return nil
	})
	v.Windows = len(windows)
	for id, s := range windows {
		if s.last.Final {
			v.Final++
		}
		if s.last.Final && !s.last.Exact {
			v.problem(ProblemLedger, id.String(), "the final revision %d is not exact", s.last.Revision)
		}
	}
	return windows, err
}

type revisionID struct {
	ledger.WindowID
	revision int
}

// checkResults compares every revision in the result topic with the ledger. It remembers 8 bytes per row.
func (v *Report) checkResults(ctx context.Context, cfg *Config, topic string, windows map[ledger.WindowID]*ledgerState) error {
	edition := ledger.Edition // the latest that has published anything
	for _, s := range windows {
		edition = max(edition, s.last.Edition)
	}
	sums := make(map[revisionID]*ledger.Checksum)
	lowest := make(map[ledger.WindowID]int)
	seen := make(map[uint64]struct{})
	err := ledger.ReadResults(ctx, cfg.Kafka, topic, cfg.Spec.Name, func(r ledger.ResultRow) error {
		if max(r.Edition, ledger.Edition) < edition {
			return nil // of an edition that was ended
		}
		v.Rows++
		id := revisionID{ledger.WindowID{Window: r.Window, Start: r.Start}, r.Revision}
		sum := sums[id]
		if sum == nil {
			sum = new(ledger.Checksum)
			sums[id] = sum
		}
		sum.Add(r)
		if low, ok := lowest[id.WindowID]; !ok || r.Revision < low {
			lowest[id.WindowID] = r.Revision
		}
		hash := rowHash(id, r.Key)
		if _, twice := seen[hash]; twice {
			v.problem(ProblemResults, id.String(), "revision %d of key %s stands twice", r.Revision, r.Key)
		}
		seen[hash] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	v.Revisions = len(sums)
	for id, sum := range sums {
		s, ok := windows[id.WindowID]
		if !ok || id.revision > s.last.Revision {
			v.problem(ProblemResults, id.String(), "revision %d has no ledger row", id.revision)
			continue
		}
		row, ok := s.rows[id.revision]
		if ok && (row.Keys != sum.Rows() || row.Checksum != sum.String()) {
			v.problem(ProblemResults, id.String(), "revision %d has %d rows with checksum %s, its ledger row says %d and %s",
				id.revision, sum.Rows(), sum, row.Keys, row.Checksum)
		}
	}
	// Retention takes the oldest rows away; what is missing above them is a gap.
	for id, low := range lowest {
		s, ok := windows[id]
		for rev := low; ok && rev <= s.last.Revision; rev++ {
			if sums[revisionID{id, rev}] == nil {
				v.problem(ProblemResults, id.String(), "revision %d is in the ledger's range and has no rows", rev)
			}
		}
	}
	return nil
}

func rowHash(id revisionID, key []byte) uint64 {
	h := xxhash.New()
	_, _ = h.WriteString(id.Window)
	_, _ = h.Write(strconv.AppendInt([]byte{0}, id.Start, 10))
	_, _ = h.Write(strconv.AppendInt([]byte{0}, int64(id.revision), 10))
	_, _ = h.Write(append([]byte{0}, key...))
	return h.Sum64()
}

// checkView compares the ledger rows that Redis shows with the latest of the ledger topic.
func (v *Report) checkView(ctx context.Context, cfg *Config, windows map[ledger.WindowID]*ledgerState) error {
	for id, s := range windows {
		p, found, err := cfg.State.Published(ctx, store.WindowID{Pipeline: cfg.Spec.Name, Window: id.Window, Start: id.Start})
		if err != nil {
			return err
		}
		if !found {
			v.problem(ProblemView, id.String(), "Redis does not show it; the ledger has revision %d", s.last.Revision)
			continue
		}
		var shown ledger.Row
		if err := json.Unmarshal(p.Row, &shown); err != nil {
			v.problem(ProblemView, id.String(), "Redis shows something that is no ledger row: %v", err)
			continue
		}
		if shown.Revision != s.last.Revision || shown.Checksum != s.last.Checksum || shown.Final != s.last.Final {
			v.problem(ProblemView, id.String(), "Redis shows revision %d (%s, final %t), the ledger says %d (%s, final %t)",
				shown.Revision, shown.Checksum, shown.Final, s.last.Revision, s.last.Checksum, s.last.Final)
		}
	}
	return nil
}
