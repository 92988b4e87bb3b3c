package publish

import (
	"context"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/traces"
)

// sending is the content of a revision on its way to Kafka.
type sending struct {
	row             *ledger.Row
	prefix          ledger.ResultPrefix
	headers         []source.Header
	statesTopic     string
	record          Record // the one that is being appended
	value           []byte // of it
	stateful        bool   // the states topic got a record
	results, states ledger.Link

	earlier, earlierStates []ledger.Link // of a revision that publishes what it changes

	appended [2][]int64 // how many records went where, by partition: of the result topic and of the states topic
}

// traceHeaders carry the trace context of the span in ctx, if its trace is recorded.
func traceHeaders(ctx context.Context) []source.Header {
	if context := traces.Sampled(ctx); context != "" {
		return []source.Header{{Key: traces.Header, Value: []byte(context)}}
	}
	return nil
}

// newSending is for a revision that publishes all of its rows, or only what it changes.
func newSending(d *Draft, more []source.Header, whole bool) *sending {
	row := d.Row
	s := &sending{
		row: row, prefix: ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition),
		headers:     append([]source.Header{{Key: "mr-window", Value: []byte(row.Window)}}, more...),
		statesTopic: ledger.StatesTopic(row.Pipeline),
		results:     ledger.Link{Revision: row.Revision, TopicID: d.Topics.Results, Whole: whole},
		states:      ledger.Link{Revision: row.Revision, TopicID: d.Topics.States, Whole: whole},
	}
	if !whole {
		s.earlier, s.earlierStates = d.Latest.Links, d.Latest.States
	}
	return s
}

// addRow appends the records of one row: to the result topic and, with its state, to the states topic.
func (s *sending) addRow(ctx context.Context, p Producer, c ledger.Content) error {
	if s.row.PublishedTo != "" {
		s.value = s.prefix.Append(s.value[:0], s.row.Revision, c)
		if err := s.append(ctx, p, s.row.PublishedTo, c.Key); err != nil {
			return err
		}
	}
	return s.addState(ctx, p, c)
}

// addState appends the record of a row's state, if it has one. Where the states of earlier revisions count, a key that has
// left is said to have none any more.
func (s *sending) addState(ctx context.Context, p Producer, c ledger.Content) error {
	if c.Deleted && len(s.earlierStates) == 0 || !c.Deleted && len(c.State) == 0 {
		return nil
	}
	s.stateful = true
	s.value = s.prefix.AppendState(s.value[:0], s.row.Revision, c)
	return s.append(ctx, p, s.statesTopic, c.Key)
}

func (s *sending) append(ctx context.Context, p Producer, topic string, key []byte) error {
	s.record = Record{Topic: topic, Key: key, Value: s.value, Headers: s.headers}
	if err := p.Append(ctx, &s.record); err != nil {
		return err
	}
	of := &s.appended[0]
	if topic == s.statesTopic {
		of = &s.appended[1]
	}
	if more := int(s.record.Partition) + 1 - len(*of); more > 0 {
		*of = append(*of, make([]int64, more)...)
	}
	(*of)[s.record.Partition]++
	return nil
}

// place notes where the records stand.
func (s *sending) place(stand standing) error {
	to := [2]string{s.row.PublishedTo, s.statesTopic}
	for i, link := range []*ledger.Link{&s.results, &s.states} {
		for partition, n := range s.appended[i] {
			tp := source.TopicPartition{Topic: to[i], Partition: int32(partition)}
			err := stand.take(tp, n, func(first, last int64) {
				link.Extend(tp.Partition, first)
				link.Extend(tp.Partition, last)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// links say where the rows and the states of the content stand: those of earlier revisions, as far as they count, and these.
func (s *sending) links() (results, states []ledger.Link) {
	if s.row.PublishedTo != "" {
		results = append(slices.Clone(s.earlier), s.results)
	}
	if s.stateful {
		states = append(slices.Clone(s.earlierStates), s.states)
	}
	return results, states
}
