package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"millrace/pipeline/source"
)

// producer is the transactional producer of a slot.
type producer struct {
	transactions *source.TransactionalProducer
	ledger       string // the topic whose records name their partition
}

func (p *producer) Begin() error { return deliveryError(p.transactions.Begin()) }

func (p *producer) Append(ctx context.Context, r *Record) error {
	wanted := int32(source.ByKey)
	if r.Topic == p.ledger {
		wanted = r.Partition
	}
	partition, err := p.transactions.Append(ctx, r.Topic, wanted, r.Key, r.Value, r.Headers)
	r.Partition = partition
	return deliveryError(err)
}

func (p *producer) Flush(ctx context.Context) ([]source.Appended, error) {
	appended, err := p.transactions.Flush(ctx)
	return appended, deliveryError(err)
}

func (p *producer) Commit() error { return deliveryError(p.transactions.Commit()) }

func (p *producer) Close() error { return deliveryError(p.transactions.Close()) }

// deliveryError gives the cause of a failed delivery, and ErrFenced when another producer of the
// slot took over.
func deliveryError(err error) error {
	var large *source.TooLargeError
	var code sarama.KError
	switch {
	case err == nil || errors.As(err, &large):
		return err
	case source.TooLarge(err):
		return fmt.Errorf("%w: %w", source.ErrRecordTooLarge, err)
	case errors.As(err, &code) && (code == sarama.ErrProducerFenced || code == sarama.ErrInvalidProducerEpoch):
		return ErrFenced // the rest is a number that the client library has no words for
	}
	return err
}

// Send appends records to the open transaction, of which everything was flushed before, and sets
// their Partition and Offset to where they stand when all are acknowledged.
func Send(ctx context.Context, p Producer, records []Record) error {
	for i := range records {
		if err := p.Append(ctx, &records[i]); err != nil {
			return err
		}
	}
	appended, err := p.Flush(ctx)
	if err != nil {
		return err
	}
	stand := newStanding(appended)
	for i := range records {
		r := &records[i]
		tp := source.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		if err := stand.take(tp, 1, func(first, _ int64) { r.Offset = first }); err != nil {
			return err
		}
	}
	return nil
}
