package source

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

const (
	// openBytesMost bounds the open batches of a producer. Beyond it the largest is sent before it
	// is full.
	openBytesMost = 4 << 20
	// sealedBytesMost bounds the compressed batches that are not acknowledged. Beyond it Append
	// waits.
	sealedBytesMost = 4 << 20
)

// topicOutlet is what a producer knows of a topic.
type topicOutlet struct {
	name       string
	limit      int  // the largest record that the topic takes, as of the producer's first use of it
	current    bool // the partitions are those that the open transaction uses
	partitions []*partitionOutlet
	byKey      sarama.Partitioner

	// What the partitioner looks at, made once.
	message sarama.ProducerMessage
	key     sarama.ByteEncoder
}

// partitionOutlet is the way of records into one partition.
type partitionOutlet struct {
	TopicPartition
	next  int32 // sequence number of the next record of the producer
	inUse bool  // in the open transaction
	open  openBatch

	sealed   []*sealedBatch // not acknowledged, in order
	sent     int            // of sealed, from the first on
	inFlight int            // of those
	trouble  error          // why a batch has to be sent again
	since    time.Time      // when trouble began, zero without
	broker   *brokerOutlet  // of the leader; nil: to be looked up
	distrust time.Time      // a leader looked up before this moment led nowhere
}

func (p *TransactionalProducer) append(
	ctx context.Context, topic string, partition int32, key, value []byte, headers []Header,
) (int32, error) {
	if !p.open {
		return 0, fmt.Errorf("append to %s: no transaction is open", topic)
	}
	t := p.recent
	if t == nil || t.name != topic {
		var err error
		if t, err = p.topic(ctx, topic); err != nil {
			return 0, err
		}
	}
	size := RecordSize(key, value, headers)
	if size > t.limit {
		return 0, &TooLargeError{Topic: topic, Key: bytes.Clone(key), Size: size, Limit: t.limit}
	}
	part, err := t.partition(partition, key)
	if err != nil {
		return 0, err
	}
	if !part.inUse {
		part.inUse = true
		p.used, p.unadded = append(p.used, part), append(p.unadded, part)
	}
	if n := part.open.records; n > 0 && (n == batchRecords || part.open.size()+size > min(t.limit, batchBytes)) {
		if err := p.sendOpen(ctx, part); err != nil {
			return 0, err
		}
	}
	p.openBytes += part.open.add(key, value, headers)
	if p.openBytes > openBytesMost {
		largest := slices.MaxFunc(p.used, func(a, b *partitionOutlet) int { return a.open.size() - b.open.size() })
		if err := p.sendOpen(ctx, largest); err != nil {
			return 0, err
		}
	}
	return part.Partition, nil
}

// partition is where a record goes.
func (t *topicOutlet) partition(wanted int32, key []byte) (*partitionOutlet, error) {
	if wanted == ByKey {
		var err error
		t.key = key
		if wanted, err = t.byKey.Partition(&t.message, int32(len(t.partitions))); err != nil {
			return nil, fmt.Errorf("topic %s: choose a partition: %w", t.name, err)
		}
	}
	if wanted < 0 || int(wanted) >= len(t.partitions) {
		return nil, fmt.Errorf("%s/%d: %w", t.name, wanted, ErrUnknownPartition)
	}
	return t.partitions[wanted], nil
}

// topic returns what is known of a topic. How many partitions it has stays as it is for a
// transaction, so that a key stays where it is.
func (p *TransactionalProducer) topic(ctx context.Context, name string) (*topicOutlet, error) {
	t := p.topics[name]
	if t == nil {
		setting, err := p.cluster.MaxMessageBytes(ctx, name)
		if err != nil {
			return nil, err
		}
		t = &topicOutlet{name: name, limit: RecordLimit(setting), byKey: sarama.NewMurmur2Partitioner(name)}
		t.message = sarama.ProducerMessage{Topic: name, Key: &t.key}
		p.topics[name] = t
	}
	if !t.current {
		var v topicView
		err := p.cluster.again(ctx, func(ctx context.Context) (err error) {
			v, err = p.cluster.topic(ctx, name, time.Now().Add(-metadataAge))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", name, err)
		}
		for n := len(t.partitions); n < len(v.partitions); n++ {
			tp := TopicPartition{Topic: name, Partition: int32(n)}
			t.partitions = append(t.partitions, &partitionOutlet{TopicPartition: tp})
		}
		t.partitions = t.partitions[:len(v.partitions)] // fewer: the topic was made again
		t.current = true
	}
	p.recent = t
	return t, nil
}

// sendOpen seals the open batch of a partition, sends what can be sent, and waits while too much is
// not acknowledged.
func (p *TransactionalProducer) sendOpen(ctx context.Context, part *partitionOutlet) error {
	if err := p.seal(part); err != nil {
		return err
	}
	if err := p.takeAnswers(); err != nil {
		return err
	}
	if err := p.sendSealed(ctx); err != nil {
		return err
	}
	for p.sealedBytes > sealedBytesMost {
		if err := p.waitForAnswers(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flush sends everything and waits until it is acknowledged.
func (p *TransactionalProducer) flush(ctx context.Context) error {
	for _, part := range p.used {
		if part.open.records > 0 {
			if err := p.seal(part); err != nil {
				return err
			}
		}
	}
	if err := p.takeAnswers(); err != nil {
		return err
	}
	if err := p.sendSealed(ctx); err != nil {
		return err
	}
	for len(p.unacked) > 0 {
		if err := p.waitForAnswers(ctx); err != nil {
			return err
		}
	}
	return nil
}

// seal ends the open batch of a partition, which has records, and gives it its place among the
// batches to be sent.
func (p *TransactionalProducer) seal(part *partitionOutlet) error {
	p.openBytes -= part.open.size()
	b, err := part.open.seal(part.next)
	if err != nil {
		return fmt.Errorf("compress a batch for %s: %w", part.TopicPartition, err)
	}
	part.next = int32((int64(part.next) + int64(b.records)) & math.MaxInt32) // Kafka's sequence numbers begin anew at 0
	if len(part.sealed) == 0 {
		p.unacked = append(p.unacked, part)
	}
	part.sealed = append(part.sealed, b)
	p.sealedBytes += len(*b.packed)
	return nil
}
