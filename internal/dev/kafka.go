package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// defaultPartitions is what a topic gets that is created without a partition count.
const defaultPartitions = 4

// KafkaConfig says how the embedded Kafka runs. The zero value is a broker on a free port that forgets everything at Close.
type KafkaConfig struct {
	// DataDir keeps topics, records, consumer groups and transactional ids over a restart. Empty means memory only.
	// One process at a time may use a directory.
	DataDir string
	// Port to listen on at 127.0.0.1; 0 takes a free one.
	Port int
	// MinSessionTimeout is the shortest session timeout a consumer group may ask for; 0 means Kafka's own default of 6 s.
	MinSessionTimeout time.Duration
	// RebalanceWait is how long a rebalance waits for members at the most, whatever they ask for; 0 means 15 s.
	RebalanceWait time.Duration
	// SyncWrites makes every record durable before it is acknowledged. Without it a crash of the process loses nothing,
	// a crash of the machine may lose the last writes, as with Kafka's own defaults.
	SyncWrites bool
}

// Kafka is a running embedded broker. Its methods may be called from any goroutine.
type Kafka struct {
	cluster *kfake.Cluster
	addr    string
	release func() error
	once    sync.Once
	err     error
}

// StartKafka starts one broker and returns when it accepts connections. Topics are never created by asking for them.
// ctx bounds the start only; the broker runs until Close.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded Kafka: %w", err)
	}
	release, err := lockDir(ctx, cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start embedded Kafka: %w", err)
	}
	listen := &net.ListenConfig{}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(cfg.Port),
		kfake.ClusterID("millrace-dev"),
		kfake.DefaultNumPartitions(defaultPartitions),
		kfake.BrokerConfigs(map[string]string{
			// A broker's default is 3 replicas, which one broker refuses for topics that ask for the default.
			"default.replication.factor": "1",
			// Retention goes by the records' own timestamps: a replay of old data would vanish within the hour.
			"log.retention.ms": "-1",
		}),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			ln, err := listen.Listen(ctx, network, address)
			return ln, portError("Kafka", cfg.Port, err)
		}),
	}
	if cfg.DataDir != "" {
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	if cfg.MinSessionTimeout > 0 {
		opts = append(opts, kfake.GroupMinSessionTimeout(cfg.MinSessionTimeout))
	}
	if cfg.SyncWrites {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start embedded Kafka: %w", errors.Join(err, release()))
	}
	answerUnknownGroups(cluster)
	boundRebalances(cluster, cmp.Or(cfg.RebalanceWait, defaultRebalanceWait))
	return &Kafka{cluster: cluster, addr: cluster.ListenAddrs()[0], release: release}, nil
}

// Addr is the broker's address, host:port, for a client's list of brokers.
func (k *Kafka) Addr() string { return k.addr }

// Compact runs log compaction and retention on every topic now instead of once an hour.
func (k *Kafka) Compact() { k.cluster.Compact() }

// Close writes what is still in memory to the data directory and stops the broker. Calling it again returns the first answer.
func (k *Kafka) Close() error {
	k.once.Do(func() {
		k.cluster.Close()
		k.err = k.release()
	})
	return k.err
}

// portError explains a failed listen: nearly always the port is taken.
func portError(server string, port int, err error) error {
	if err == nil || port == 0 {
		return err
	}
	return fmt.Errorf("%s cannot listen on 127.0.0.1:%d (choose another port, or 0 for a free one): %w", server, port, err)
}
