package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// fill produces a workload, partitioned by key, and behind it one record for each partition that closes every window. Then
// it reads the topic back: the count is checked, and the broker has warmed up before the first engine reads.
func fill(ctx context.Context, args []string) error {
	var flags workloadFlags
	f := flag.NewFlagSet("fill", flag.ContinueOnError)
	flags.register(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	w, err := flags.load()
	if err != nil {
		return err
	}
	if err := makeTopic(flags.brokers, flags.topic, w.Partitions); err != nil {
		return err
	}
	if err := produce(ctx, w, flags.brokers, flags.topic); err != nil {
		return err
	}
	n, err := countRecords(ctx, flags.brokers, flags.topic, w)
	if err != nil {
		return err
	}
	if want := w.Records + int64(w.Partitions); n != want {
		return fmt.Errorf("topic %s holds %d records, not %d", flags.topic, n, want)
	}
	fmt.Println(n, "records")
	return nil
}

func produce(ctx context.Context, w *Workload, brokers, topic string) error {
	conf := producerConfig()
	conf.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewAsyncProducer([]string{brokers}, conf)
	if err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range p.Errors() {
			failed.CompareAndSwap(nil, &e.Err)
		}
	})
	send := func(partition int, key string, value []byte) {
		p.Input() <- &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(value),
			Partition: int32(partition)}
	}
	w.each(func(e Event) {
		if ctx.Err() == nil && failed.Load() == nil {
			send(int(e.Key%int64(w.Partitions)), w.keyName(e.Key), bytes.Clone(e.json))
		}
	})
	for partition := range w.Partitions {
		key, value := w.closing(partition)
		send(partition, key, value)
	}
	p.AsyncClose()
	wg.Wait()
	if e := failed.Load(); e != nil {
		return *e
	}
	return ctx.Err()
}

// countRecords reads every partition up to its closing record.
func countRecords(ctx context.Context, brokers, topic string, w *Workload) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var n, closed int64
	err := follow(ctx, brokers, topic, w.Partitions, func(m *sarama.ConsumerMessage) {
		n++
		if bytes.HasPrefix(m.Key, []byte(closingKey)) {
			if closed++; closed == int64(w.Partitions) {
				cancel()
			}
		}
	})
	return n, err
}
