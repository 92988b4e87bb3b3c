package verify

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/page"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// laneLooks is how many looks are taken at a lane that is in the middle of a commit.
const laneLooks = 5

func (v *Report) checkLane(ctx context.Context, cfg *Config, id store.LaneID) (LaneCheck, error) {
	check := LaneCheck{Lane: id.String(), Offset: -1, Records: -1, Late: -1}
	var meta store.Meta
	for look := 1; ; look++ {
		found, err := cfg.State.WholeIndex(ctx, id, cfg.Spec.StateID())
		if errors.Is(err, store.ErrNoMeta) {
			break
		}
		if unusable(err) {
			v.problem(ProblemState, check.Lane, "%v", err)
			return check, nil
		}
		if err != nil {
			return check, err
		}
		meta = found.Meta
		check.Offset, check.Counters, check.Slices, check.Entries = meta.Offset, meta.Counters, len(found.Slices), 0
		quiet, problems, err := checkEntries(ctx, cfg, id, &found, &check.Entries)
		if unusable(err) {
			v.problem(ProblemState, check.Lane, "%v", err)
			break
		}
		if err != nil {
			return check, err
		}
		if quiet {
			v.Problems = append(v.Problems, problems...)
			break
		}
		if look == laneLooks {
			check.Busy = true
			break
		}
	}
	tp := source.TopicPartition{Topic: id.Topic, Partition: id.Partition}
	ends, err := cfg.Kafka.Ends(ctx, tp)
	if err != nil {
		return check, fmt.Errorf("end of %s: %w", tp, err)
	}
	check.End = ends[tp].End
	topic, err := cfg.Kafka.Topic(ctx, id.Topic) // after the ends: they are of this topic, or of one before it
	if err != nil {
		return check, fmt.Errorf("id of topic %s: %w", id.Topic, err)
	}
	sameLog := meta.TopicID == "" || topic.ID == "" || meta.TopicID == topic.ID
	if !sameLog {
		v.problem(ProblemTopic, check.Lane, "its state belongs to topic id %s, the cluster's topic %s has id %s: it was deleted and made again, "+
			"so offset %d says nothing about the log of now", meta.TopicID, id.Topic, topic.ID, check.Offset)
	}
	c := meta.Counters
	v.Totals.Add(c)
	if sum := c.Sum(); sum != c.Read {
		v.problem(ProblemConservation, check.Lane,
			"read %d, but invalid+ahead+past+jumped+filtered+duplicate+late+folded is %d: %+v", c.Read, sum, c)
	}
	skipped, begun := c.Skipped, meta.Begun // of this log, and of the lane's first past
	if meta.Era != 0 {
		skipped, begun = 0, 0 // a decision may have led behind the beginning, or to another log
	}
	if check.Offset >= 0 && c.Read+skipped > check.Offset-begun {
		v.problem(ProblemInput, check.Lane, "read %d records and skipped %d between offsets %d and %d", c.Read, skipped, begun, check.Offset)
	}
	if cfg.Input && check.Offset >= 0 && sameLog && meta.Begun == begun {
		if check.Records, err = countRecords(ctx, cfg.Kafka, tp, ends[tp], begun, check.Offset); err != nil {
			return check, fmt.Errorf("count records of %s: %w", tp, err)
		}
		if check.Records >= 0 && check.Records != c.Read {
			v.problem(ProblemInput, check.Lane, "read %d records, the log holds %d from offset %d up to %d",
				c.Read, check.Records, begun, check.Offset)
		}
	}
	return check, nil
}

// unusable reports whether err is about what Redis holds, and not about reaching it.
func unusable(err error) bool {
	var other *store.StateIDError
	return store.Unreadable(err) || errors.As(err, &other) || errors.Is(err, agg.ErrEntryCorrupt) || errors.Is(err, agg.ErrEntryVersion) ||
		errors.Is(err, page.ErrNewer)
}

// checkEntries compares entries with folded counts. It is not quiet when the lane went on or backwards meanwhile, which
// makes the comparison worthless.
func checkEntries(ctx context.Context, cfg *Config, id store.LaneID, found *store.LaneIndex, entries *int64) (quiet bool, problems []Problem, err error) {
	folded, m := int64(0), &found.Meta
	for i := range found.Slices {
		s := &found.Slices[i]
		folded += s.Folded
		counted := int64(0)
		ahead := false
		guard, err := cfg.State.ReadContent(ctx, id, m.StateID, s, cfg.Spec.Lane.Buckets, func(_, entry []byte) error {
			_, stamp, count, err := agg.EntryHeader(entry)
			if err != nil {
				return fmt.Errorf("lane %s, slice %s: %w", id, s.SliceID, err)
			}
			counted += count
			ahead = ahead || stamp > m.Offset
			*entries++
			return nil
		})
		if errors.Is(err, store.ErrLaneMoved) || errors.Is(err, store.ErrNoMeta) || errors.Is(err, store.ErrPageGone) {
			return false, nil, nil
		}
		if err != nil {
			return false, nil, err
		}
		if inFields := len(s.Pages) == 0 && !s.Paged; ahead || inFields && guard.Offset != m.Offset || guard != (store.Guard{}) && !guard.Follows(m.Guard()) {
			return false, nil, nil
		}
		if counted != s.Folded {
			problems = append(problems, Problem{Kind: ProblemEntries, Where: id.String(),
				Detail: fmt.Sprintf("slice %s: the entries count %d events, the lane folded %d", s.SliceID, counted, s.Folded)})
		}
	}
	if err := m.CheckBalance(id, found.Stats()); err != nil {
		problems = append(problems, Problem{Kind: ProblemLoss, Where: id.String(), Detail: err.Error()})
	}
	if folded > m.Counters.Folded {
		problems = append(problems, Problem{Kind: ProblemEntries, Where: id.String(),
			Detail: fmt.Sprintf("its slices hold %d events, it folded %d in its whole life", folded, m.Counters.Folded)})
	}
	return true, problems, nil
}
