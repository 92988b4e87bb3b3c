package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// ledgerState is what the ledger topic says about one window.
type ledgerState struct {
	last ledger.Row
	rows map[int]ledger.Row // by revision, as far as compaction left them; of a revision the last

	corrected int // the last revision that a correction was made for although its row is not final, 0 for none

	mended int    // the latest revision that mends what a recount has found wrong, 0 for none
	mends  string // the places that were wrong
}

// ledgerTopic is what the ledger topic says.
type ledgerTopic struct {
	windows map[ledger.WindowID]*ledgerState
	gone    map[ledger.WindowID]struct{} // windows whose rows were given up
	floors  map[slotFloor]int64          // ms
	edition map[int32]int                // of each slot, the latest

	certificates map[ledger.WindowID]ledger.Certificate
}

type slotFloor struct {
	slot    int32
	family  string
	edition int
}

// floored reports whether a window of the current edition lies at or below its slot's floor: it is final, row or no row.
func (l *ledgerTopic) floored(id ledger.WindowID, end int64, slots int) bool {
	slot := int32(id.Slot(slots))
	floor, ok := l.floors[slotFloor{slot, id.Window, l.edition[slot]}]
	return ok && end <= floor
}

func (v *Report) checkLedger(ctx context.Context, cfg *Config) (*ledgerTopic, error) {
	l := &ledgerTopic{
		windows: make(map[ledger.WindowID]*ledgerState), gone: make(map[ledger.WindowID]struct{}),
		floors: make(map[slotFloor]int64), edition: make(map[int32]int), certificates: make(map[ledger.WindowID]ledger.Certificate),
	}
	err := ledger.Read(ctx, cfg.Kafka, cfg.Spec.Name, func(rec ledger.Record) error {
		switch {
		case rec.Row != nil:
			v.checkRow(cfg, l, rec)
		case rec.Tombstone != nil:
			if _, ok := l.windows[*rec.Tombstone]; ok {
				l.gone[*rec.Tombstone] = struct{}{}
			}
			delete(l.windows, *rec.Tombstone)
			delete(l.certificates, *rec.Tombstone)
		case rec.Certificate != nil:
			l.certificates[rec.Certificate.ID()] = *rec.Certificate
		case rec.Uncertified != nil:
			delete(l.certificates, *rec.Uncertified)
		case rec.Floor != nil:
			id := slotFloor{rec.Partition, rec.Floor.Window, rec.Floor.Edition}
			if before, ok := l.floors[id]; ok && rec.Floor.End < before {
				v.problem(ProblemLedger, id.family, "the floor of slot %d goes back from %s to %s", id.slot,
					window.FormatTime(before), window.FormatTime(rec.Floor.End))
			}
			l.floors[id] = rec.Floor.End
			l.edition[rec.Partition] = max(l.edition[rec.Partition], rec.Floor.Ended+1)
		case rec.Ended != nil: // what an earlier edition published in this slot binds nobody
			here := func(id ledger.WindowID) bool { return id.Slot(cfg.Slots) == int(rec.Partition) }
			maps.DeleteFunc(l.windows, func(id ledger.WindowID, _ *ledgerState) bool { return here(id) })
			maps.DeleteFunc(l.gone, func(id ledger.WindowID, _ struct{}) bool { return here(id) })
			maps.DeleteFunc(l.certificates, func(id ledger.WindowID, _ ledger.Certificate) bool { return here(id) })
			l.edition[rec.Partition] = max(l.edition[rec.Partition], rec.Ended.Edition+1)
		}
		return nil
	})
	v.Windows, v.Expired = len(l.windows), len(l.gone)
	for id, s := range l.windows {
		if s.last.Final {
			v.Final++
		}
		if s.last.Final && !s.last.Exact {
			v.problem(ProblemLedger, id.String(), "the final revision %d is not exact", s.last.Revision)
		}
		if s.corrected > 0 && !l.floored(id, s.last.End, cfg.Slots) {
			v.problem(ProblemLedger, id.String(), "revision %d was corrected before it was final", s.corrected)
		}
	}
	for id := range l.gone {
		end := id.Start
		if w := cfg.Spec.Window(id.Window); w != nil {
			end += w.Size.Millis()
		} else if periods, ok := cfg.Spec.Grid(id.Window); ok {
			_, end = periods.Bounds(id.Start)
		}
		if end > id.Start && !l.floored(id, end, cfg.Slots) {
			v.problem(ProblemLedger, id.String(), "its row was given up, although it lies above the floor")
		}
	}
	v.checkRollups(cfg.Spec, l)
	v.checkCertificates(l)
	return l, err
}

// checkCertificates compares certificates with the revisions that they are about.
func (v *Report) checkCertificates(l *ledgerTopic) {
	for id, c := range l.certificates {
		s, ok := l.windows[id]
		if !ok {
			continue // an earlier version of millrace gave the row up alone; the closers' next floor takes the certificate
		}
		row, known := s.rows[c.Revision]
		switch {
		case c.Revision > s.last.Revision:
			v.problem(ProblemLedger, id.String(), "a certificate is about revision %d, the latest is %d", c.Revision, s.last.Revision)
		case known && (c.Keys != row.Keys || c.Events != row.Events || c.Checksum != row.Checksum):
			v.revisionProblem(ProblemLedger, revisionID{id, c.Revision},
				"revision %d has %d keys, %d events and checksum %s, its certificate says %d, %d and %s",
				c.Revision, row.Keys, row.Events, row.Checksum, c.Keys, c.Events, c.Checksum)
		case c.Revision == s.last.Revision:
			v.Certified++
		}
	}
}

// checkRow takes over one row of the ledger topic. Rows of a window follow each other in the order of their revisions; one that
// only moved to the end of the log is the same as before.
func (v *Report) checkRow(cfg *Config, l *ledgerTopic, rec ledger.Record) {
	e := *rec.Row
	id := e.ID()
	if want := id.Slot(cfg.Slots); int(rec.Partition) != want {
		v.problem(ProblemLedger, id.String(), "a row stands in partition %d, its slot is %d", rec.Partition, want)
	}
	if _, gone := l.gone[id]; gone {
		v.problem(ProblemLedger, id.String(), "revision %d was published after the row was given up", e.Revision)
	}
	s, ok := l.windows[id]
	if !ok {
		l.windows[id] = &ledgerState{last: e, rows: map[int]ledger.Row{e.Revision: e}}
		return
	}
	switch last := s.last; {
	case e.Revision < last.Revision:
		v.problem(ProblemLedger, id.String(), "revision %d follows revision %d", e.Revision, last.Revision)
	case e.Revision == last.Revision && e.Checksum != last.Checksum:
		v.revisionProblem(ProblemLedger, revisionID{id, e.Revision}, "revision %d has checksums %s and %s", e.Revision, last.Checksum, e.Checksum)
	case e.Revision > last.Revision && e.Checksum == last.Checksum && e.Mends == "":
		v.problem(ProblemLedger, id.String(), "revisions %d and %d have the same content", last.Revision, e.Revision)
	case last.Final && e.ByLanes() && (e.Revision != last.Revision || e.ClosedAt != last.ClosedAt):
		v.problem(ProblemLedger, id.String(), "revision %d follows the final one", e.Revision)
	case e.Revision > last.Revision && !e.ByLanes() && !last.Final:
		s.corrected = last.Revision
	}
	if !e.Final && !e.ByLanes() {
		v.problem(ProblemLedger, id.String(), "revision %d of reason %s is not final", e.Revision, e.Reason)
	}
	base, ok := s.rows[e.Revision-1]
	if ok && e.Replay != nil && (e.Replay.BaseRevision != base.Revision || e.Replay.BaseChecksum != base.Checksum) {
		v.problem(ProblemLedger, id.String(), "revision %d was made for revision %d with checksum %s, it follows %d with %s", e.Revision,
			e.Replay.BaseRevision, e.Replay.BaseChecksum, base.Revision, base.Checksum)
	}
	s.last, s.rows[e.Revision] = e, e
	if e.Mends != "" && isWhole(&e) {
		s.mended, s.mends = e.Revision, e.Mends
	}
}

// isWhole reports whether nothing of earlier revisions counts in one.
func isWhole(row *ledger.Row) bool { return len(row.Links) <= 1 && len(row.States) <= 1 }

// leaveMended leaves out what is wrong with revisions that a later one mends, and notes them.
func (v *Report) leaveMended(l *ledgerTopic) {
	mended := make(map[ledger.WindowID]bool)
	v.Problems = slices.DeleteFunc(v.Problems, func(p Problem) bool {
		s := l.windows[p.about.WindowID]
		if p.about.revision == 0 || s == nil || p.about.revision >= s.mended {
			return false
		}
		mended[p.about.WindowID] = true
		return true
	})
	for id := range mended {
		v.Notes = append(v.Notes, fmt.Sprintf("%s: what was wrong with earlier revisions is mended by revision %d (%s)",
			id, l.windows[id].mended, l.windows[id].mends))
	}
	slices.Sort(v.Notes)
}

type revisionID struct {
	ledger.WindowID
	revision int
}

// revisionProblem is a problem of one revision, which a later one may mend.
func (v *Report) revisionProblem(kind string, about revisionID, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{kind, about.String(), fmt.Sprintf(format, args...), about})
}

// checkResults compares every revision in the result topic with the ledger. It remembers 8 bytes per row, and the digests of
// windows of which a revision published only what it changed.
func (v *Report) checkResults(ctx context.Context, cfg *Config, topic string, l *ledgerTopic) error {
	edition := ledger.Edition // the latest: one that has just begun has published nothing, but ended those before it
	for _, e := range l.edition {
		edition = max(edition, e)
	}
	for _, s := range l.windows {
		edition = max(edition, s.last.Edition)
	}
	published := newPublished(l)
	lowest := make(map[ledger.WindowID]int)
	ends := make(map[ledger.WindowID]int64)
	seen := make(map[uint64]struct{})
	err := ledger.ReadResults(ctx, cfg.Kafka, topic, cfg.Spec.Name, func(r ledger.ResultRow) error {
		if max(r.Edition, ledger.Edition) < edition {
			return nil // of an edition that was ended
		}
		v.Rows++
		id := revisionID{ledger.WindowID{Window: r.Window, Start: r.Start}, r.Revision}
		published.add(id, &r)
		ends[id.WindowID] = r.End
		if low, ok := lowest[id.WindowID]; !ok || r.Revision < low {
			lowest[id.WindowID] = r.Revision
		}
		hash := rowHash(id, r.Key)
		if _, twice := seen[hash]; twice {
			v.revisionProblem(ProblemResults, id, "revision %d of key %s stands twice", r.Revision, r.Key)
		}
		seen[hash] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	v.Revisions = len(published.sums)
	starts, err := logStarts(ctx, cfg.Kafka, topic)
	if err != nil {
		return err
	}
	for id, of := range published.sums {
		s, ok := l.windows[id.WindowID]
		if !ok && l.floored(id.WindowID, ends[id.WindowID], cfg.Slots) {
			continue // its row was given up after retention.ledger
		}
		if !ok || id.revision > s.last.Revision {
			v.problem(ProblemResults, id.String(), "revision %d has no ledger row", id.revision)
			continue
		}
		row, ok := s.rows[id.revision]
		if !ok {
			continue // compacted
		}
		sum, differs := published.content(&row)
		if (sum.Rows() < row.Keys || differs) && trimmed(&row, starts) {
			continue // the topic's retention has begun to take them away
		}
		if differs && row.Changed > 0 && of.rows != row.Changed { // earlier releases that write a row again leave it out
			v.revisionProblem(ProblemResults, id, "revision %d has %d rows, its ledger row says that %d changed", id.revision,
				of.rows, row.Changed)
		}
		if row.Keys != sum.Rows() || row.Checksum != sum.String() {
			v.revisionProblem(ProblemResults, id, "revision %d has %d rows with checksum %s, its ledger row says %d and %s",
				id.revision, sum.Rows(), &sum, row.Keys, row.Checksum)
		}
	}
	// Retention takes the oldest rows away; what is missing above them is a gap.
	for id, low := range lowest {
		s, ok := l.windows[id]
		for rev := low; ok && rev <= s.last.Revision; rev++ {
			if row, known := s.rows[rev]; known && row.Keys == 0 {
				continue // without any key it has no row to show
			}
			if s.mayBeOnlyStates(rev) {
				continue
			}
			if published.sums[revisionID{id, rev}] == nil && !s.cutAway(rev, starts) {
				v.revisionProblem(ProblemResults, revisionID{id, rev}, "revision %d is in the ledger's range and has no rows", rev)
			}
		}
	}
	return nil
}

// logStarts returns where the partitions of a topic begin now.
func logStarts(ctx context.Context, k Kafka, topic string) (map[int32]int64, error) {
	partitions, err := k.Partitions(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
	}
	tps := make([]source.TopicPartition, len(partitions))
	for i, p := range partitions {
		tps[i] = source.TopicPartition{Topic: topic, Partition: p}
	}
	ends, err := k.Ends(ctx, tps...)
	if err != nil {
		return nil, fmt.Errorf("offsets of topic %s: %w", topic, err)
	}
	starts := make(map[int32]int64, len(ends))
	for tp, e := range ends {
		starts[tp.Partition] = e.Start
	}
	return starts, nil
}

// trimmed reports whether the result topic's retention may have taken rows of a revision: some of its offsets lie below
// the log's start. A row of version 1 does not name its offsets.
func trimmed(row *ledger.Row, starts map[int32]int64) bool {
	if len(row.Links) == 0 {
		for _, start := range starts {
			if start > 0 {
				return true
			}
		}
		return false
	}
	for _, link := range row.Links {
		if isCut(link, starts) {
			return true
		}
	}
	return false
}

// cutAway reports whether the result topic's retention may have taken all rows of a revision: partitions are cut one by one,
// and a revision that published what it changed may stand in a single one.
func (s *ledgerState) cutAway(revision int, starts map[int32]int64) bool {
	for _, row := range s.rows {
		for _, link := range row.Links {
			if link.Revision == revision {
				return isCut(link, starts)
			}
		}
	}
	return trimmed(&ledger.Row{}, starts) // no row that is left says where it stood
}

// mayBeOnlyStates reports whether a revision has changed nothing but states, as far as a row that is left says what it was. Of a
// window with states no row need be left that does.
func (s *ledgerState) mayBeOnlyStates(revision int) bool {
	states := false
	for _, row := range s.rows {
		states = states || len(row.States) > 0
		for _, link := range row.Links {
			if link.Revision == revision {
				return !link.Whole && len(link.Partitions) == 0
			}
		}
	}
	return states
}

// isCut reports whether a topic begins behind some of the offsets that a link names.
func isCut(link ledger.Link, starts map[int32]int64) bool {
	for _, span := range link.Partitions {
		if span.First < starts[span.Partition] {
			return true
		}
	}
	return false
}

func rowHash(id revisionID, key []byte) uint64 {
	h := xxhash.New()
	_, _ = h.WriteString(id.Window)
	_, _ = h.Write(strconv.AppendInt([]byte{0}, id.Start, 10))
	_, _ = h.Write(strconv.AppendInt([]byte{0}, int64(id.revision), 10))
	_, _ = h.Write(append([]byte{0}, key...))
	return h.Sum64()
}

// expirySlack is how far from its due time a view may still be there, or be gone already: the clocks of Redis and of the
// closers differ, and a closer that takes over needs a moment to find an expiry that was lost.
const expirySlack = time.Minute

// checkView compares the ledger rows that Redis shows with the latest of the ledger topic, as far as they have not expired.
func (v *Report) checkView(ctx context.Context, cfg *Config, l *ledgerTopic) error {
	for id, s := range l.windows {
		keep := cfg.Spec.Keeps(id.Window)
		p, found, err := cfg.State.Published(ctx, store.WindowID{Pipeline: cfg.Spec.Name, Window: id.Window, Start: id.Start})
		if err != nil {
			return err
		}
		done := s.last.Final || l.floored(id, s.last.End, cfg.Slots)
		left := keep.Left(s.last.ClosedAt, cfg.Now())
		unarchived := cfg.Spec.Archive != nil && s.last.Archive == nil
		switch {
		case done && left < -expirySlack && unarchived && found: // it stays until it is archived
			v.Unarchived++
		case done && found && left < -expirySlack:
			v.problem(ProblemView, id.String(), "Redis still shows it; it was due to expire at %s, the closers' sweep removes it",
				window.FormatTime(s.last.ClosedAt+keep.Results.Millis()))
			continue
		case done && !found && left < expirySlack:
			v.ViewsExpired++
			continue
		}
		if !found && done {
			v.problem(ProblemView, id.String(),
				"Redis does not show it: it is missing, not expired, and was to stay until %s; the ledger has revision %d",
				window.FormatTime(s.last.ClosedAt+keep.Results.Millis()), s.last.Revision)
			continue
		}
		if !found {
			v.problem(ProblemView, id.String(),
				"Redis does not show it: it is missing, not expired, for it is not final; the ledger has revision %d", s.last.Revision)
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
		if err := v.checkRows(ctx, cfg, id, p); err != nil {
			return err
		}
	}
	return nil
}
