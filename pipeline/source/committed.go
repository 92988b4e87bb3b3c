package source

import (
	"context"
	"fmt"
)

// ReadCommitted passes the records of a partition from offset from to its last stable offset, as of the call, to fn, in
// order, and returns the position after them. From below the log's start it begins there. From behind the last stable offset
// there is nothing to read yet: an open transaction hides what follows, or one whose commit was acknowledged has not got its
// marker here. From above the log's end is ErrOffsetOutOfRange.
func (c *Cluster) ReadCommitted(ctx context.Context, tp TopicPartition, from int64, fn func(Record) error) (int64, error) {
	return c.readCommitted(ctx, tp, from, false, func(r Record, _ []Header) error { return fn(r) })
}

// ReadCommittedHeaders is ReadCommitted with the headers of every record.
func (c *Cluster) ReadCommittedHeaders(ctx context.Context, tp TopicPartition, from int64, fn func(Record, []Header) error) (int64, error) {
	return c.readCommitted(ctx, tp, from, true, fn)
}

func (c *Cluster) readCommitted(ctx context.Context, tp TopicPartition, from int64, headers bool, fn func(Record, []Header) error) (int64, error) {
	all, err := c.Ends(ctx, tp)
	if err != nil {
		return from, err
	}
	ends := all[tp]
	if from > ends.HighWatermark {
		return from, &OutOfRangeError{TopicPartition: tp, Offset: from, Ends: ends}
	}
	if from = max(from, ends.Start); from >= ends.End {
		return from, nil
	}
	r := OpenReader(ReaderConfig{Cluster: c, Topic: tp.Topic, Partition: tp.Partition, Offset: from, Headers: headers})
	defer r.Close()
	for from < ends.End {
		select {
		case <-ctx.Done():
			return from, context.Cause(ctx)
		case batch, ok := <-r.Batches():
			if !ok {
				if err := r.Err(); err != nil {
					return from, err
				}
				return from, fmt.Errorf("read %s: %w", tp, ErrClosed)
			}
			for i, record := range batch.Records {
				if record.Offset >= ends.End {
					break
				}
				var own []Header
				if headers {
					own = batch.Headers[i]
				}
				if err := fn(record, own); err != nil {
					return from, err
				}
			}
			from = batch.Next
		}
	}
	return ends.End, nil
}
