package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/source"
)

// producer is a sarama transactional producer.
type producer struct {
	sync    sarama.SyncProducer
	inTxn   bool // a transaction is open
	cluster *source.Cluster
	cfg     *source.Config // counts calls
	limits  map[string]int // of records, by topic, as of the producer's first use of it
}

func (p *producer) Begin() error {
	err := p.sync.BeginTxn()
	p.inTxn = err == nil
	return deliveryError(err)
}

// Send implements Producer. What is under way cannot be interrupted: sarama gives up by itself. Records go out together as
// long as they fit one batch of their topic, wherever their keys lead. A record that its topic does not take is a
// *source.TooLargeError before anything of it is sent.
func (p *producer) Send(ctx context.Context, records []Record) error {
	batch := make(map[string]int) // bytes by topic
	from := 0
	for i := range records {
		r := &records[i]
		limit, err := p.topicLimit(ctx, r.Topic)
		if err != nil {
			return err
		}
		size := source.RecordSize(r.Key, r.Value, r.Headers)
		if size > limit {
			return &source.TooLargeError{Topic: r.Topic, Key: bytes.Clone(r.Key), Size: size, Limit: limit}
		}
		if batch[r.Topic]+size > limit {
			if err := p.sendBatch(ctx, records[from:i]); err != nil {
				return err
			}
			clear(batch)
			from = i
		}
		batch[r.Topic] += size
	}
	return p.sendBatch(ctx, records[from:])
}

// topicLimit is the size of the largest record that the topic takes.
func (p *producer) topicLimit(ctx context.Context, topic string) (int, error) {
	if known, ok := p.limits[topic]; ok {
		return known, nil
	}
	setting, err := p.cluster.MaxMessageBytes(ctx, topic)
	if err != nil {
		return 0, err
	}
	p.limits[topic] = source.RecordLimit(setting)
	return p.limits[topic], nil
}

func (p *producer) sendBatch(ctx context.Context, records []Record) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	// Windows have many rows: their messages, keys, values and headers are made at once, and an Encoder is a pointer into them.
	messages, made := make([]*sarama.ProducerMessage, len(records)), make([]sarama.ProducerMessage, len(records))
	contents := make([]struct{ key, value sarama.ByteEncoder }, len(records))
	headers := 0
	for i := range records {
		headers += len(records[i].Headers)
	}
	allHeaders := make([]sarama.RecordHeader, 0, headers)
	var name []byte // of the header before: rows have the same
	for i := range records {
		r, m, c := &records[i], &made[i], &contents[i]
		c.key, c.value = r.Key, r.Value
		m.Topic, m.Partition, m.Key = r.Topic, r.Partition, &c.key
		if r.Value != nil { // nil is a tombstone
			m.Value = &c.value
		}
		first := len(allHeaders)
		for _, h := range r.Headers {
			if string(name) != h.Key {
				name = []byte(h.Key)
			}
			allHeaders = append(allHeaders, sarama.RecordHeader{Key: name, Value: h.Value})
		}
		m.Headers = allHeaders[first:len(allHeaders):len(allHeaders)]
		messages[i] = m
	}
	began := time.Now()
	err := p.sync.SendMessages(messages)
	p.cfg.CountCall("produce_in_transaction", began, err)
	if err != nil {
		return deliveryError(err)
	}
	for i, m := range messages {
		records[i].Partition, records[i].Offset = m.Partition, m.Offset
	}
	return nil
}

func (p *producer) Commit() error {
	began := time.Now()
	err := p.sync.CommitTxn()
	p.cfg.CountCall("commit_transaction", began, err)
	if err == nil {
		p.inTxn = false
	}
	return deliveryError(err)
}

func (p *producer) Close() error {
	var aborted error
	if p.inTxn {
		aborted = deliveryError(p.sync.AbortTxn())
	}
	return errors.Join(aborted, p.sync.Close())
}

// deliveryError gives the cause of a failed delivery, and ErrFenced when another producer of the slot took over.
func deliveryError(err error) error {
	if err == nil {
		return nil
	}
	var many sarama.ProducerErrors
	if errors.As(err, &many) && len(many) > 0 {
		err = fmt.Errorf("%d records not delivered, the first: %w", len(many), many[0])
	}
	if source.TooLarge(err) {
		return fmt.Errorf("%w: %w", source.ErrRecordTooLarge, err)
	}
	var code sarama.KError
	if errors.As(err, &code) && (code == sarama.ErrProducerFenced || code == sarama.ErrInvalidProducerEpoch) {
		return ErrFenced // the rest is a number that the client library has no words for
	}
	return err
}
