package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
)

// aggregator is what a team writes by hand: a map for each window of a claim, written to Redis every second, published when
// the claim's watermark has passed the window's end. It needs a topic that is partitioned by the key. Nothing reads the
// state back from Redis, so a restart loses the open windows. Its methods run on one goroutine for each claim.
type aggregator struct {
	w      *Workload
	tag    string
	parse  parser
	redis  *redis.Client
	out    sarama.SyncProducer
	result string
	read   atomic.Int64
}

// cell is a row and whether Redis has it yet.
type cell struct {
	Row
	dirty bool
}

// claim is one partition's state.
type claim struct {
	*aggregator
	windows map[int64]map[string]*cell
	high    int64
	last    *sarama.ConsumerMessage
}

func (*aggregator) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*aggregator) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim folds records and, every second, writes what changed, publishes what is complete and marks the offset.
func (a *aggregator) ConsumeClaim(session sarama.ConsumerGroupSession, messages sarama.ConsumerGroupClaim) error {
	c := claim{aggregator: a, windows: map[int64]map[string]*cell{}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ctx := session.Context()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := c.commit(ctx); err != nil {
				return err
			}
			if c.last != nil {
				session.MarkMessage(c.last, "")
			}
		case m, ok := <-messages.Messages():
			if !ok {
				return nil
			}
			at, key, value, err := a.parse(m.Value)
			if err != nil {
				return fmt.Errorf("%s/%d/%d: %w", m.Topic, m.Partition, m.Offset, err)
			}
			c.fold(at, key, value)
			c.last = m
			a.read.Add(1)
		}
	}
}

// fold adds one event to its window. The key is copied when it is new.
func (c *claim) fold(at int64, key string, value int64) {
	start := at - at%c.w.Size
	window := c.windows[start]
	if window == nil {
		window = map[string]*cell{}
		c.windows[start] = window
	}
	x := window[key]
	if x == nil {
		x = &cell{}
		window[strings.Clone(key)] = x
	}
	x.add(value)
	x.dirty = true
	c.high = max(c.high, at)
}

func (c *claim) commit(ctx context.Context) error {
	for start, window := range c.windows {
		if err := c.flush(ctx, start, window); err != nil {
			return err
		}
		if start+c.w.Size <= c.high-c.w.Disorder {
			if err := c.publish(start, window); err != nil {
				return err
			}
			delete(c.windows, start)
		}
	}
	return nil
}

// flush writes the changed cells of a window, up to 500 in one HSET.
func (c *claim) flush(ctx context.Context, start int64, window map[string]*cell) error {
	const batch = 500
	key := c.tag + ":" + strconv.FormatInt(start, 10)
	pipe := c.redis.Pipeline()
	fields := make([]any, 0, 2*batch)
	for name, x := range window {
		if !x.dirty {
			continue
		}
		x.dirty = false
		fields = append(fields, name, fmt.Appendf(nil, "%d,%d,%d,%d", x.Count, x.Sum, x.Min, x.Max))
		if len(fields) == 2*batch {
			pipe.HSet(ctx, key, fields...)
			fields = fields[:0]
		}
	}
	if len(fields) > 0 {
		pipe.HSet(ctx, key, fields...)
	}
	if pipe.Len() == 0 {
		return nil
	}
	pipe.Expire(ctx, key, time.Hour)
	_, err := pipe.Exec(ctx)
	return err
}

// publish waits until the broker has every row of the window.
func (c *claim) publish(start int64, window map[string]*cell) error {
	rows := make([]*sarama.ProducerMessage, 0, len(window))
	field := c.w.fields().Key
	for key, x := range window {
		v := fmt.Appendf(nil, `{"start":%d,"%s":"%s","count":%d,"sum":%d,"min":%d,"max":%d}`,
			start, field, key, x.Count, x.Sum, x.Min, x.Max)
		rows = append(rows, &sarama.ProducerMessage{Topic: c.result, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(v)})
	}
	return c.out.SendMessages(rows)
}

func hand(ctx context.Context, args []string) error {
	var flags workloadFlags
	f := flag.NewFlagSet("hand", flag.ContinueOnError)
	flags.register(f)
	addr := f.String("redis", "127.0.0.1:36379", "Redis, host:port")
	group := f.String("group", "", "consumer group, and what the keys in Redis begin with")
	result := f.String("result", "", "result topic")
	fast := f.Bool("fast", false, "parse with jsonparser instead of encoding/json")
	if err := f.Parse(args); err != nil {
		return err
	}
	w, err := flags.load()
	if err != nil {
		return err
	}
	conf := producerConfig()
	conf.Producer.Return.Successes = true
	out, err := sarama.NewSyncProducer([]string{flags.brokers}, conf)
	if err != nil {
		return err
	}
	defer out.Close()
	a := &aggregator{w: w, tag: *group, parse: parserOf(w, *fast), out: out, result: *result}
	a.redis = redis.NewClient(&redis.Options{Addr: *addr})
	defer a.redis.Close()
	return a.consume(ctx, flags.brokers, flags.topic, *group)
}

// consume runs until the context ends and prints every 100 ms how many records have been read.
func (a *aggregator) consume(ctx context.Context, brokers, topic, group string) error {
	conf := clientConfig()
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	conf.Consumer.Fetch.Default = 4 << 20
	conf.ChannelBufferSize = 4096
	conf.Consumer.MaxProcessingTime = 10 * time.Second
	conf.Consumer.Return.Errors = true
	g, err := sarama.NewConsumerGroup([]string{brokers}, group, conf)
	if err != nil {
		return err
	}
	defer g.Close()
	// An error of a claim ends the program: sarama alone would only report it and go on without the claim.
	failed := make(chan error, 1)
	go func() {
		for err := range g.Errors() {
			select {
			case failed <- err:
			default:
			}
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-failed:
				cancel(err)
			case <-tick.C:
				fmt.Println("P", a.read.Load())
			}
		}
	}()
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, a); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
