package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// ContentLog is what reading contents needs of Kafka; *source.Cluster is one.
type ContentLog interface {
	ledger.Log
	Topic(ctx context.Context, name string) (source.Topic, error)
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
}

// RevisionReader is what reading contents needs of Redis; *store.Store is one.
type RevisionReader interface {
	ReadDirectory(ctx context.Context, id store.WindowID, rev int) (store.View, []byte, error)
	ReadViewFields(ctx context.Context, id store.WindowID, whole int, names []string, fn func(i int, value []byte) error) error
	// ReadRevision reads a content that an earlier release has written.
	ReadRevision(ctx context.Context, id store.WindowID, rev int, fn func(page []byte) error) error
}

// Contents reads the whole content of a revision from wherever it still stands: from the states topic when the row names
// states, else from the result topic, else from the view in Redis. It is safe for concurrent use.
type Contents struct {
	Kafka ContentLog
	State RevisionReader // nil: the view is left out

	// Render renders the values of an entry as the spec that published does. Without it the states topic is left out.
	Render func(state []byte) (values []byte, overflow bool, err error)

	// Wait is how long rows are waited for that an open transaction holds back (default 30 s).
	Wait time.Duration
}

const (
	defaultContentWait = 30 * time.Second
	contentLook        = 50 * time.Millisecond
)

// GoneError says that the content of a revision does not stand anywhere any more as its ledger row names it, and why.
type GoneError struct {
	Window   ledger.WindowID
	Revision int
	Missing  []string // by the places where it was looked for

	// Expired says that what stood in every one of these places is gone, by the topic's retention, with a topic that was made again
	// since, or with what Redis has lost: nothing there contradicts the row.
	Expired bool
}

func (e *GoneError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("window %s, revision %d: its content was published nowhere that can be read", e.Window, e.Revision)
	}
	return fmt.Sprintf("window %s, revision %d: %s", e.Window, e.Revision, strings.Join(e.Missing, "; "))
}

// Read returns the content of the row's revision, sorted by key, without the keys that have left the window. Keys and
// checksum are those of the row; anything else is a *GoneError. It has states only when they were read.
func (r *Contents) Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error) {
	return r.readFrom(ctx, row, r.readStates, r.readResults, r.readView)
}

// ReadStates is Read for one who needs the state of every key: it looks only where states are.
func (r *Contents) ReadStates(ctx context.Context, row *ledger.Row) ([]ledger.Content, error) {
	rows, err := r.readFrom(ctx, row, r.readStates, r.readView)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(rows, func(c ledger.Content) bool { return len(c.State) == 0 }); i >= 0 {
		return nil, &GoneError{
			Window: row.ID(), Revision: row.Revision, Missing: []string{fmt.Sprintf("the state of key %s was not published", rows[i].Key)},
		}
	}
	return rows, nil
}

// Found is what one place holds of a revision.
type Found struct {
	Rows    []ledger.Content // sorted by key, without the keys that have left the window
	Missing string           // how they differ from what the ledger row says; "" when they do not
	Expired bool             // what is missing is gone, and contradicts nothing: retention has taken it, or Redis has lost it
}

// InResults returns what the result topic holds of the row's revision, whether it is what the row says or not. It is nil when the
// row was published to no topic.
func (r *Contents) InResults(ctx context.Context, row *ledger.Row) (*Found, error) {
	return inPlace(ctx, row, r.readResults)
}

// InView is InResults for the view in Redis.
func (r *Contents) InView(ctx context.Context, row *ledger.Row) (*Found, error) {
	return inPlace(ctx, row, r.readView)
}

func inPlace(ctx context.Context, row *ledger.Row, read contentPlace) (*Found, error) {
	rows, looked, gone, err := read(ctx, row)
	switch {
	case errors.Is(err, source.ErrUnknownTopic):
		return &Found{Missing: err.Error(), Expired: true}, nil
	case err != nil:
		return nil, fmt.Errorf("read revision %d of window %s: %w", row.Revision, row.ID(), err)
	case !looked:
		return nil, nil
	}
	return &Found{Rows: rows, Missing: gone.text, Expired: gone.expired}, nil
}

// contentPlace reads a content from one place. looked is false when the row has none there; gone says what is missing.
type contentPlace func(ctx context.Context, row *ledger.Row) (rows []ledger.Content, looked bool, gone loss, err error)

// loss is what is missing in a place; without a text nothing is.
type loss struct {
	text    string
	expired bool // and that it contradicts nothing
}

func (r *Contents) readFrom(ctx context.Context, row *ledger.Row, places ...contentPlace) ([]ledger.Content, error) {
	missing := &GoneError{Window: row.ID(), Revision: row.Revision, Expired: true}
	for _, read := range places {
		rows, looked, gone, err := read(ctx, row)
		if errors.Is(err, source.ErrUnknownTopic) {
			gone, err = loss{err.Error(), true}, nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("read revision %d of window %s: %w", row.Revision, row.ID(), err)
		case gone.text != "":
			missing.Missing = append(missing.Missing, gone.text)
			missing.Expired = missing.Expired && gone.expired
		case looked:
			return rows, nil
		}
	}
	missing.Expired = missing.Expired && len(missing.Missing) > 0
	return nil, missing
}

// readResults reads the rows that the result topic holds of the row's content.
func (r *Contents) readResults(ctx context.Context, row *ledger.Row) (rows []ledger.Content, looked bool, gone loss, err error) {
	if row.PublishedTo == "" {
		return nil, false, loss{}, nil
	}
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	wanted := map[int]bool{row.Revision: true}
	for _, link := range row.Links {
		wanted[link.Revision] = true
	}
	latest := make(map[string]ledger.ResultRow)
	err = r.readLinks(ctx, row.PublishedTo, row.Links, func(rec source.Record) error {
		if !bytes.HasPrefix(rec.Value, prefix) {
			return nil
		}
		var found ledger.ResultRow
		if err := found.UnmarshalJSON(rec.Value); err != nil {
			return fmt.Errorf("topic %s, offset %d: %w", row.PublishedTo, rec.Offset, err)
		}
		if old, ok := latest[string(found.Key)]; wanted[found.Revision] && (!ok || found.Supersedes(old)) {
			latest[string(found.Key)] = found
		}
		return nil
	})
	if err != nil {
		return nil, true, loss{}, err
	}
	for _, found := range latest {
		if !found.Deleted {
			rows = append(rows, ledger.Content{Key: found.Key, Values: found.Values, Overflow: found.Overflow})
		}
	}
	if found, ok := isContentOf(rows, row); !ok {
		gone, err = r.explainLoss(ctx, row, row.PublishedTo, row.Links, found)
	}
	return rows, true, gone, err
}

// readStates reads the states topic and renders the values.
func (r *Contents) readStates(ctx context.Context, row *ledger.Row) (rows []ledger.Content, looked bool, gone loss, err error) {
	if len(row.States) == 0 || r.Render == nil {
		return nil, false, loss{}, nil
	}
	err = r.eachRendered(ctx, row, func(found ledger.Content) error {
		rows = append(rows, found)
		return nil
	})
	if err != nil {
		return nil, true, loss{}, err
	}
	if found, ok := isContentOf(rows, row); !ok {
		gone, err = r.explainLoss(ctx, row, ledger.StatesTopic(row.Pipeline), row.States, found)
	}
	return rows, true, gone, err
}

// readView reads what Redis has of the revision.
func (r *Contents) readView(ctx context.Context, row *ledger.Row) (rows []ledger.Content, looked bool, gone loss, err error) {
	if r.State == nil {
		return nil, false, loss{}, nil
	}
	id := store.WindowID{Pipeline: row.Pipeline, Window: row.Window, Start: row.Start}
	err = r.eachViewPage(ctx, id, row.Revision, func(page []byte) error {
		page = bytes.Clone(page)
		return view.EachRow(page, func(c ledger.Content) error {
			if !c.Deleted {
				rows = append(rows, c)
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, store.ErrNoRevision):
		return nil, true, loss{"Redis does not have it any more", true}, nil
	case err != nil:
		return nil, true, loss{}, err
	}
	if found, ok := isContentOf(rows, row); !ok {
		return rows, true, loss{text: fmt.Sprintf("the ledger names %d keys with checksum %s, Redis holds %d with %s",
			row.Keys, row.Checksum, found.Rows(), found)}, nil
	}
	return rows, true, loss{}, nil
}

// eachViewPage passes the pages of a revision to fn.
func (r *Contents) eachViewPage(ctx context.Context, id store.WindowID, rev int, fn func(page []byte) error) error {
	shown, text, err := r.State.ReadDirectory(ctx, id, rev)
	if errors.Is(err, store.ErrNoRevision) {
		err = r.State.ReadRevision(ctx, id, rev, fn)
	}
	if err != nil || text == nil {
		return err
	}
	directory, err := view.ParseDirectory(text)
	if err != nil {
		return err
	}
	var fields []string
	for i := range directory.Pages {
		if directory.Pages[i].Revision > 0 {
			fields = append(fields, directory.Field(i))
		}
	}
	return r.State.ReadViewFields(ctx, id, shown.Whole, fields, func(_ int, page []byte) error { return fn(page) })
}

// isContentOf sorts rows and reports whether they are what a ledger row says, and what they add up to.
func isContentOf(rows []ledger.Content, row *ledger.Row) (*ledger.Checksum, bool) {
	slices.SortFunc(rows, func(a, b ledger.Content) int { return bytes.Compare(a.Key, b.Key) })
	sum := new(ledger.Checksum)
	for _, c := range rows {
		sum.AddContent(c)
	}
	return sum, sum.Rows() == row.Keys && sum.String() == row.Checksum
}

// maxGap is how many records between two spans of a partition are read along with them: another read costs as much.
const maxGap = 10_000

// spansOf are the spans of all links, by partition and offset, joined where little lies between.
func spansOf(links []ledger.Link) (spans []ledger.Span) {
	for _, link := range links {
		spans = append(spans, link.Partitions...)
	}
	slices.SortFunc(spans, func(a, b ledger.Span) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.First, b.First))
	})
	n := 0
	for _, span := range spans {
		if n > 0 && spans[n-1].Partition == span.Partition && span.First-spans[n-1].Last <= maxGap {
			spans[n-1].Last = max(spans[n-1].Last, span.Last)
			continue
		}
		spans[n] = span
		n++
	}
	return spans[:n]
}

// readLinks passes the records of a topic that stand where links say to fn, and some in between. Without links, as in rows of
// version 1, that is the whole topic.
func (r *Contents) readLinks(ctx context.Context, topic string, links []ledger.Link, fn func(source.Record) error) error {
	for _, span := range spansOf(links) {
		if err := r.readSpan(ctx, topic, span, fn); err != nil {
			return err
		}
	}
	if len(links) > 0 {
		return nil
	}
	partitions, err := r.Kafka.Partitions(ctx, topic)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		if _, err := r.Kafka.ReadCommitted(ctx, source.TopicPartition{Topic: topic, Partition: p}, 0, fn); err != nil {
			return err
		}
	}
	return nil
}

// readSpan passes the records of a span to fn, as far as they are still there. A ledger row can be visible before its rows
// are, because markers are written partition by partition, and any open transaction hides what stands behind it: such rows
// are waited for.
func (r *Contents) readSpan(ctx context.Context, topic string, span ledger.Span, fn func(source.Record) error) error {
	tp := source.TopicPartition{Topic: topic, Partition: span.Partition}
	wait := r.Wait
	if wait == 0 {
		wait = defaultContentWait
	}
	limit := time.After(wait)
	seen := false // that no transaction hides anything of the span any more
	for from := span.First; ; {
		var failed error
		next, err := r.Kafka.ReadCommitted(ctx, tp, from, func(rec source.Record) error {
			if rec.Offset > span.Last {
				return errFound
			}
			if rec.Offset < from {
				return nil
			}
			from = rec.Offset + 1
			failed = fn(rec)
			return failed
		})
		if failed != nil { // also of the last record, behind which nothing is left to be read
			return failed
		}
		if errors.Is(err, errFound) || err == nil && next > span.Last || from > span.Last {
			return nil
		}
		if err != nil && !errors.Is(err, source.ErrOffsetOutOfRange) { // the topic was cut, or made again
			return err
		}
		all, err := r.Kafka.Ends(ctx, tp)
		if err != nil {
			return err
		}
		switch ends := all[tp]; {
		case ends.HighWatermark <= span.Last, seen:
			return nil // it was cut, or made again
		case ends.End > span.Last:
			seen = true
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			return fmt.Errorf("%s: an open transaction hides what stands at and behind offset %d; the rows reach to %d", tp, all[tp].End, span.Last)
		case <-time.After(contentLook):
		}
	}
}

// explainLoss says what became of rows that are not those of the ledger row. That the topic's retention took them is said only
// when the topic begins behind where they stood.
func (r *Contents) explainLoss(ctx context.Context, row *ledger.Row, name string, links []ledger.Link, found *ledger.Checksum) (loss, error) {
	what := fmt.Sprintf("the ledger names %d keys with checksum %s, topic %s holds %d with %s",
		row.Keys, row.Checksum, name, found.Rows(), found)
	topic, err := r.Kafka.Topic(ctx, name)
	if err != nil {
		return loss{}, fmt.Errorf("%s; whether its retention took the rest cannot be seen: %w", what, err)
	}
	for _, link := range links {
		if link.TopicID != "" && topic.ID != "" && link.TopicID != topic.ID {
			return loss{what + "; the topic was made again since: the rows went with the topic before it", true}, nil
		}
		tps := make([]source.TopicPartition, len(link.Partitions))
		for i, span := range link.Partitions {
			tps[i] = source.TopicPartition{Topic: name, Partition: span.Partition}
		}
		ends, err := r.Kafka.Ends(ctx, tps...)
		if err != nil {
			return loss{}, fmt.Errorf("%s; whether its retention took the rest cannot be seen: %w", what, err)
		}
		for i, span := range link.Partitions {
			if begins := ends[tps[i]].Start; begins > span.First {
				return loss{fmt.Sprintf("%s; the rest has expired: partition %d begins at offset %d by now, and the rows stood from %d on. "+
					"Raise the topic's retention.ms if readers come that late", what, span.Partition, begins, span.First), true}, nil
			}
		}
	}
	return loss{text: fmt.Sprintf("%s; ledger and contents disagree, and nothing shows that the topic's retention took rows: run millrace verify %s",
		what, row.Pipeline)}, nil
}
