package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// quiet is how long the watcher reads on after every row was right: a wrong row may follow a right one.
const quiet = 1500 * time.Millisecond

// verdict is what the watcher found. Rows counts the places of the truth that hold the right row; Revised the rows that
// replaced another one; Strange those of no key or window of the workload, or that cannot be read.
type verdict struct {
	Expected int64 `json:"expected"`
	Rows     int64 `json:"rows"`
	Wrong    int64 `json:"wrong"`
	Missing  int64 `json:"missing"`
	Revised  int64 `json:"revised"`
	Strange  int64 `json:"strange"`
}

// watch prints READY when it knows the truth, DONE with the time in ms when every row was right (0 if that did not come
// about), and RESULT with a verdict on every row that stood in the topic at the end.
func watch(ctx context.Context, args []string) error {
	var flags workloadFlags
	f := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.register(f)
	wait := f.Duration("wait", 3*time.Minute, "give up after this time")
	if err := f.Parse(args); err != nil {
		return err
	}
	w, err := flags.load()
	if err != nil {
		return err
	}
	c := newChecker(w)
	fmt.Println("READY")
	reading, cancel := context.WithTimeout(ctx, *wait)
	defer cancel()
	done := sync.OnceFunc(func() {
		fmt.Println("DONE", time.Now().UnixMilli())
		time.AfterFunc(quiet, cancel)
	})
	err = follow(reading, flags.brokers, flags.topic, resultPartitions, func(m *sarama.ConsumerMessage) {
		c.add(m.Value)
		if c.complete() {
			done()
		}
	})
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if errors.Is(reading.Err(), context.DeadlineExceeded) {
		fmt.Println("DONE", 0)
	}
	out, err := json.Marshal(c.verdict(os.Stderr))
	fmt.Println("RESULT", string(out))
	return err
}

// follow calls fn, never twice at once, for every committed record of the topic, until the context ends.
func follow(ctx context.Context, brokers, topic string, partitions int, fn func(*sarama.ConsumerMessage)) error {
	conf := clientConfig()
	conf.Consumer.IsolationLevel = sarama.ReadCommitted
	conf.Consumer.MaxWaitTime = 100 * time.Millisecond
	conf.Consumer.Fetch.Default = 4 << 20
	consumer, err := sarama.NewConsumer([]string{brokers}, conf)
	if err != nil {
		return err
	}
	defer consumer.Close()
	var mu sync.Mutex // held while fn runs
	var readers sync.WaitGroup
	defer readers.Wait()
	for p := range partitions {
		messages, err := openPartition(consumer, topic, int32(p))
		if err != nil {
			return err
		}
		readers.Go(func() {
			defer messages.AsyncClose()
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-messages.Messages():
					mu.Lock()
					if ctx.Err() == nil {
						fn(m)
					}
					mu.Unlock()
				}
			}
		})
	}
	<-ctx.Done()
	return nil
}

// openPartition tries for a while, because the leaders of a new topic take a moment.
func openPartition(c sarama.Consumer, topic string, partition int32) (pc sarama.PartitionConsumer, err error) {
	for range 50 {
		if pc, err = c.ConsumePartition(topic, partition, sarama.OffsetOldest); err == nil {
			return pc, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s/%d: %w", topic, partition, err)
}
