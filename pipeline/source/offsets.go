package source

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// Ends asks the leaders for the bounds of partitions, many partitions in one request per broker. The start is asked for
// first and the high watermark last, so Start <= End <= HighWatermark even while the log moves.
func (c *Cluster) Ends(ctx context.Context, tps ...TopicPartition) (map[TopicPartition]Ends, error) {
	ends := make(map[TopicPartition]Ends, len(tps))
	for _, ask := range []struct {
		time      int64
		isolation sarama.IsolationLevel
		note      func(*Ends, int64)
	}{
		{sarama.OffsetOldest, sarama.ReadCommitted, func(e *Ends, o int64) { e.Start = o }},
		{sarama.OffsetNewest, sarama.ReadCommitted, func(e *Ends, o int64) { e.End = o }},
		{sarama.OffsetNewest, sarama.ReadUncommitted, func(e *Ends, o int64) { e.HighWatermark = o }},
	} {
		offsets, err := c.listOffsets(ctx, tps, ask.time, ask.isolation)
		if err != nil {
			return nil, err
		}
		for tp, offset := range offsets {
			e := ends[tp]
			ask.note(&e, offset)
			ends[tp] = e
		}
	}
	return ends, nil
}

// StableEnds asks for the last stable offsets only: a third of the requests of Ends.
func (c *Cluster) StableEnds(ctx context.Context, tps ...TopicPartition) (map[TopicPartition]int64, error) {
	return c.listOffsets(ctx, tps, sarama.OffsetNewest, sarama.ReadCommitted)
}

// OffsetsAt asks for the offset of the first record of each partition whose timestamp is not before at (ms). A partition without
// such a record has its last stable offset, as of before the question: what comes meanwhile is not left out.
func (c *Cluster) OffsetsAt(ctx context.Context, at int64, tps ...TopicPartition) (map[TopicPartition]int64, error) {
	ends, err := c.StableEnds(ctx, tps...)
	if err != nil {
		return nil, err
	}
	offsets, err := c.listOffsets(ctx, tps, at, sarama.ReadCommitted)
	if err != nil {
		return nil, err
	}
	for tp, offset := range offsets {
		if offset < 0 {
			offsets[tp] = ends[tp]
		}
	}
	return offsets, nil
}

// listOffsets asks every leader once and asks again for the partitions whose leader had moved.
func (c *Cluster) listOffsets(ctx context.Context, tps []TopicPartition, at int64, isolation sarama.IsolationLevel) (map[TopicPartition]int64, error) {
	offsets := make(map[TopicPartition]int64, len(tps))
	missing := tps
	since := time.Now().Add(-metadataAge)
	err := c.again(ctx, func(ctx context.Context) error {
		byLeader := map[string][]TopicPartition{}
		var failed error
		var left []TopicPartition
		fail := func(tp TopicPartition, err error) {
			left = append(left, tp)
			if failed == nil || permanent(err) {
				failed = fmt.Errorf("offsets of %s: %w", tp, err)
			}
		}
		for _, tp := range missing {
			l, err := c.leader(ctx, tp, since)
			if err != nil {
				fail(tp, err)
				continue
			}
			byLeader[l.addr] = append(byLeader[l.addr], tp)
		}
		for addr, tps := range byLeader {
			c.listFrom(ctx, addr, tps, at, isolation, offsets, fail)
		}
		missing, since = left, time.Now()
		return failed
	})
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

func (c *Cluster) listFrom(ctx context.Context, addr string, tps []TopicPartition, at int64, isolation sarama.IsolationLevel,
	offsets map[TopicPartition]int64, fail func(TopicPartition, error),
) {
	req := sarama.NewOffsetRequest(c.conf.Version)
	req.IsolationLevel = isolation
	for _, tp := range tps {
		req.AddBlock(tp.Topic, tp.Partition, at, 1)
	}
	var resp *sarama.OffsetResponse
	err := c.ask(ctx, addr, "list_offsets", func(b *sarama.Broker) (err error) {
		resp, err = b.GetAvailableOffsets(req)
		return err
	})
	for _, tp := range tps {
		if err != nil {
			fail(tp, err)
			continue
		}
		block := resp.GetBlock(tp.Topic, tp.Partition)
		switch {
		case block == nil:
			fail(tp, sarama.ErrIncompleteResponse)
		case block.Err != sarama.ErrNoError:
			fail(tp, block.Err)
		default:
			offsets[tp] = block.Offset
		}
	}
}
