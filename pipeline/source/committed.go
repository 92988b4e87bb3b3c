package source

import (
	"context"
	"fmt"
)

// ReadCommitted passes the records of a partition from offset from to its last stable offset, as of the call, to fn, in
// order, and returns the position after them. From below the log's start it begins there; from above its end is
// ErrOffsetOutOfRange.
func (c *Cluster) ReadCommitted(ctx context.Context, tp TopicPartition, from int64, fn func(Record) error) (int64, error) {
	all, err := c.Ends(ctx, tp)
	if err != nil {
		return from, err
	}
	ends := all[tp]
	if from > ends.End {
		return from, &OutOfRangeError{TopicPartition: tp, Offset: from, Ends: ends}
	}
	if from = max(from, ends.Start); from == ends.End {
		return from, nil
	}
	r := OpenReader(ReaderConfig{Cluster: c, Topic: tp.Topic, Partition: tp.Partition, Offset: from})
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
			for _, record := range batch.Records {
				if record.Offset >= ends.End {
					break
				}
				if err := fn(record); err != nil {
					return from, err
				}
			}
			from = batch.Next
		}
	}
	return ends.End, nil
}
