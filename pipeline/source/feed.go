package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// FeedProgress counts what a Feed has had acknowledged.
type FeedProgress struct {
	Records int64
	Bytes   int64 // keys and values
	// Prefix is how many records from the first one on are all acknowledged: where to go on after a failure. Behind it
	// partitions may have got further.
	Prefix int64
}

// progressEvery is how long a slow feed may be silent about its progress.
const progressEvery = 250 * time.Millisecond

// Feed is FeedFrom with the first record of all.
func (p *Producer) Feed(ctx context.Context, topic string, next func() (key, value []byte, err error), progress func(FeedProgress)) (FeedProgress, error) {
	return p.FeedFrom(ctx, topic, 0, next, progress)
}

// FeedFrom appends the records that next returns, until io.EOF, to all partitions of the topic in turn: record i goes to
// partition i mod n, in order, the first one being record number first. It returns when everything is acknowledged, at the
// first failure or when ctx ends, and always says how much was acknowledged by then. progress, when set, is called now and then from other goroutines and
// must not block. next is called from this goroutine; it must not reuse the bytes it returned.
func (p *Producer) FeedFrom(ctx context.Context, topic string, first int64, next func() (key, value []byte, err error), progress func(FeedProgress)) (FeedProgress, error) {
	a, err := p.appender(ctx, topic)
	if err != nil {
		return FeedProgress{}, fmt.Errorf("feed topic %s: %w", topic, err)
	}
	if err := a.client.RefreshMetadata(topic); err != nil {
		return FeedProgress{}, fmt.Errorf("feed topic %s: %w", topic, err)
	}
	partitions, err := a.client.Partitions(topic)
	if err != nil {
		return FeedProgress{}, fmt.Errorf("feed topic %s: %w", topic, err)
	}
	var done FeedProgress // guarded by the delivery's lock, as told is
	told := time.Now()
	acked := make(map[int32]int64, len(partitions))
	d := newDelivery()
	d.settled = func(msg *sarama.ProducerMessage) {
		done.Records++
		done.Bytes += size(msg.Key) + size(msg.Value)
		acked[msg.Partition]++
		p.feeds.acknowledged(msg)
		if progress != nil && (done.Records%1024 == 0 || time.Since(told) > progressEvery) {
			told = time.Now()
			progress(done)
		}
	}
	turn := int(first % int64(len(partitions)))
	partitions = slices.Concat(partitions[turn:], partitions[:turn])
	defer p.feeds.close()
	err = a.feed(ctx, topic, partitions, next, d, p.feeds)
	if err == nil {
		err = d.wait(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = nil // what is acknowledged from now on is not told
	done.Prefix = done.Records
	for i, partition := range partitions { // its first record that is not acknowledged
		done.Prefix = min(done.Prefix, acked[partition]*int64(len(partitions))+int64(i))
	}
	if progress != nil {
		progress(done)
	}
	if err != nil {
		return done, fmt.Errorf("feed topic %s: %w", topic, err)
	}
	return done, nil
}

func (a *appender) feed(ctx context.Context, topic string, partitions []int32, next func() (key, value []byte, err error), d *delivery,
	feeds *feedTracing) error {
	for i := 0; ; i++ {
		key, value, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		msg := &sarama.ProducerMessage{Topic: topic, Partition: partitions[i%len(partitions)], Key: bytesOrNil(key), Value: bytesOrNil(value)}
		feeds.begin(ctx, msg)
		if err := a.input(ctx, msg, d); err != nil {
			return err
		}
		if i%256 == 0 {
			if err := d.failed(); err != nil {
				return err
			}
		}
	}
}

func size(e sarama.Encoder) int64 {
	if e == nil {
		return 0
	}
	return int64(e.Length())
}
