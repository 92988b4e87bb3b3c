package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
)

// producerConfig asks for what a producer of Apache Kafka does by default, with larger batches and lz4.
func producerConfig() *sarama.Config {
	c := clientConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Compression = sarama.CompressionLZ4
	c.Producer.Flush.Bytes = 256 << 10
	c.Producer.Flush.Frequency = 20 * time.Millisecond
	return c
}

func clientConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_9_0_0
	return c
}

// resultPartitions is the number of partitions of every result topic.
const resultPartitions = 4

func createTopic(_ context.Context, args []string) error {
	f := flag.NewFlagSet("topic", flag.ContinueOnError)
	brokers := f.String("brokers", "127.0.0.1:39092", "Kafka broker, host:port")
	name := f.String("topic", "", "its name")
	if err := f.Parse(args); err != nil {
		return err
	}
	return makeTopic(*brokers, *name, resultPartitions)
}

func makeTopic(brokers, name string, partitions int) error {
	admin, err := sarama.NewClusterAdmin([]string{brokers}, clientConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false)
}

// clean deletes what belongs to a run: its topics and groups, and its keys in Redis.
func clean(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("clean", flag.ContinueOnError)
	brokers := f.String("brokers", "127.0.0.1:39092", "Kafka broker, host:port")
	addr := f.String("redis", "127.0.0.1:36379", "Redis, host:port")
	prefix := f.String("prefix", "", "what their names begin with")
	if err := f.Parse(args); err != nil {
		return err
	}
	if !strings.HasPrefix(*prefix, "peers-") {
		return fmt.Errorf("--prefix %q does not begin with peers-: nothing else is ever deleted", *prefix)
	}
	return errors.Join(cleanKafka(*brokers, *prefix), cleanRedis(ctx, *addr, *prefix))
}

func cleanKafka(brokers, prefix string) error {
	admin, err := sarama.NewClusterAdmin([]string{brokers}, clientConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	groups, err := admin.ListConsumerGroups()
	for g := range groups {
		if strings.HasPrefix(strings.TrimPrefix(g, "millrace."), prefix) {
			err = errors.Join(err, deleteGroup(admin, g))
		}
	}
	topics, topicsErr := admin.ListTopics()
	err = errors.Join(err, topicsErr)
	for t := range topics {
		if strings.HasPrefix(t, prefix) {
			if e := admin.DeleteTopic(t); e != nil {
				err = errors.Join(err, fmt.Errorf("topic %s: %w", t, e))
			}
		}
	}
	return err
}

// deleteGroup waits for the members that were killed to be counted out.
func deleteGroup(admin sarama.ClusterAdmin, group string) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := admin.DeleteConsumerGroup(group)
		if err == nil || errors.Is(err, sarama.ErrGroupIDNotFound) {
			return nil
		}
		if !errors.Is(err, sarama.ErrNonEmptyGroup) || time.Now().After(deadline) {
			return fmt.Errorf("group %s: %w", group, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// cleanRedis deletes with DEL, not UNLINK: the server's processor time must not reach into the next run.
func cleanRedis(ctx context.Context, addr, prefix string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: time.Minute})
	defer rdb.Close()
	for _, pattern := range []string{prefix + "*", "mr:{" + prefix + "*"} {
		keys := rdb.Scan(ctx, 0, pattern, 1000).Iterator()
		for keys.Next(ctx) {
			if err := rdb.Del(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
		if err := keys.Err(); err != nil {
			return err
		}
	}
	return nil
}
