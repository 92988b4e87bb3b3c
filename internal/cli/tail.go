package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// follower reads a pipeline's ledger and results as they grow. It is not safe for concurrent use.
type follower struct {
	kafka    ledger.Log
	pipeline string
	topic    string // results
	next     map[source.TopicPartition]int64
	rows     map[revisionName][]ledger.ResultRow // of revisions whose ledger row has not been seen
}

type revisionName struct {
	window   string
	start    int64
	revision int
}

func newFollower(k ledger.Log, pipeline, topic string) *follower {
	return &follower{kafka: k, pipeline: pipeline, topic: topic,
		next: map[source.TopicPartition]int64{}, rows: map[revisionName][]ledger.ResultRow{}}
}

// closedRevision is a ledger row with the rows it was published with; none when only its attributes changed.
type closedRevision struct {
	ledger.Row
	rows []ledger.ResultRow
}

// look returns what was published since the last look, by window end. The ledger is read first: results and ledger of a
// revision appear in one transaction, so every row of what it names is there already.
func (f *follower) look(ctx context.Context) ([]closedRevision, error) {
	var found []closedRevision
	err := f.read(ctx, ledger.Topic(f.pipeline), func(tp source.TopicPartition, r source.Record) error {
		rec, err := ledger.ParseRecord(tp, r)
		if err == nil && rec.Row != nil {
			found = append(found, closedRevision{Row: *rec.Row})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = f.read(ctx, f.topic, func(tp source.TopicPartition, r source.Record) error {
		if r.Value == nil {
			return nil
		}
		var row ledger.ResultRow
		if err := json.Unmarshal(r.Value, &row); err != nil {
			return fmt.Errorf("%s, offset %d: %w", tp, r.Offset, err)
		}
		name := revisionName{row.Window, row.Start, row.Revision}
		f.rows[name] = append(f.rows[name], row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range found {
		name := revisionName{found[i].Window, found[i].Start, found[i].Revision}
		found[i].rows = f.rows[name]
		delete(f.rows, name)
	}
	slices.SortStableFunc(found, func(a, b closedRevision) int { return cmp.Compare(a.End, b.End) })
	return found, nil
}

// read passes every new record of a topic to fn. A topic that does not exist yet holds nothing.
func (f *follower) read(ctx context.Context, topic string, fn func(source.TopicPartition, source.Record) error) error {
	partitions, err := f.kafka.Partitions(ctx, topic)
	if errors.Is(err, source.ErrUnknownTopic) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range partitions {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		next, err := f.kafka.ReadCommitted(ctx, tp, f.next[tp], func(r source.Record) error { return fn(tp, r) })
		if err != nil {
			return err
		}
		f.next[tp] = next
	}
	return nil
}

// drawClosed prints one line per revision, the last most of them, with the keys that have the greatest first value.
func drawClosed(w io.Writer, closed []closedRevision, most int) error {
	if extra := len(closed) - most; extra > 0 {
		fmt.Fprintf(w, "  ... %s\n", counted(extra, "earlier revision"))
		closed = closed[extra:]
	}
	t := &table{}
	for _, c := range closed {
		final := ""
		if c.Final {
			final = "final"
		}
		t.row(c.Window, instant(c.Start), fmt.Sprintf("rev %d", c.Revision), c.Reason, final,
			counted(c.Keys, "key"), counted(c.Events, "event"), greatest(c.rows, 4))
	}
	return t.write(w, "  ")
}

// greatest names the keys with the greatest first value.
func greatest(rows []ledger.ResultRow, most int) string {
	type entry struct {
		key   string
		value float64
		text  string
	}
	var all []entry
	for _, r := range rows {
		_, keys := cells(r.Key)
		_, values := cells(r.Values)
		if len(values) == 0 {
			continue
		}
		e := entry{key: strings.Join(keys, "/"), text: values[0]}
		if _, err := fmt.Sscan(values[0], &e.value); err != nil {
			continue
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Or(cmp.Compare(b.value, a.value), strings.Compare(a.key, b.key)) })
	var out []string
	for _, e := range all[:min(most, len(all))] {
		out = append(out, e.key+" "+e.text)
	}
	return strings.Join(out, ", ")
}
