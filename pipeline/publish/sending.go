package publish

import (
	"context"

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
	stateful        bool   // a row had a state
	results, states ledger.Link

	appended [2][]int64 // how many records went where, by partition: of the result topic and of the states topic
}

// traceHeaders carry the trace context of the span in ctx, if its trace is recorded.
func traceHeaders(ctx context.Context) []source.Header {
	if context := traces.Sampled(ctx); context != "" {
		return []source.Header{{Key: traces.Header, Value: []byte(context)}}
	}
	return nil
}

func newSending(row *ledger.Row, topics TopicIDs, more []source.Header) *sending {
	return &sending{
		row: row, prefix: ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition),
		headers:     append([]source.Header{{Key: "mr-window", Value: []byte(row.Window)}}, more...),
		statesTopic: ledger.StatesTopic(row.Pipeline),
		results:     ledger.Link{Revision: row.Revision, TopicID: topics.Results, Whole: true},
		states:      ledger.Link{Revision: row.Revision, TopicID: topics.States, Whole: true},
	}
}

// addRow appends the records of one row: to the result topic and, with its state, to the states topic.
func (s *sending) addRow(ctx context.Context, p Producer, c ledger.Content) error {
	if s.row.PublishedTo != "" {
		s.value = s.prefix.Append(s.value[:0], s.row.Revision, c)
		if err := s.append(ctx, p, s.row.PublishedTo, c.Key); err != nil {
			return err
		}
	}
	if len(c.State) == 0 || c.Deleted {
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

// links are those of a content that consists of earlier revisions and this one.
func (s *sending) links(earlier []ledger.Link) []ledger.Link {
	if s.row.PublishedTo == "" {
		return nil
	}
	return append(append([]ledger.Link(nil), earlier...), s.results)
}

func (s *sending) statesLink() *ledger.Link {
	if !s.stateful {
		return nil
	}
	return &s.states
}
