package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"

	"millrace/internal/connect"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// servers are the connections of a command. Whatever it does not need stays nil.
type servers struct {
	redis   redis.UniversalClient
	store   *store.Store
	cluster *source.Cluster
	kafka   source.Config
	release []func()
}

// Close gives all connections back.
func (s *servers) Close() {
	for i := len(s.release) - 1; i >= 0; i-- {
		s.release[i]()
	}
	s.release = nil
}

// pingLimit is how long a command waits for Redis before it says that it does not answer.
const pingLimit = 2 * time.Second

// redisAway begins the error of a Redis that cannot be reached.
const redisAway = "Redis at"

// connectData connects to Kafka and Redis. On an error nothing stays open.
func (sh *shell) connectData(ctx context.Context) (_ *servers, err error) {
	s := &servers{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.kafka, err = sh.conn.KafkaConfig(); err != nil {
		return nil, configured(err)
	}
	cfg, err := sh.conn.RedisConfig()
	if err != nil {
		return nil, configured(err)
	}
	if s.cluster, err = dialKafka(ctx, s.kafka); err != nil {
		return nil, err
	}
	s.release = append(s.release, func() { closing(s.cluster) })
	if s.redis, err = store.NewClient(cfg); err != nil {
		return nil, configured(err)
	}
	s.release = append(s.release, func() { closing(s.redis) })
	s.store = store.New(s.redis)
	pinging, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	if err := s.redis.Ping(pinging).Err(); err != nil {
		err = connect.Redis.Explain(ctx, cfg.Addrs, cfg.TLS != nil, err)
		return nil, reached(ctx, unreachablef(redisAway+" %s does not answer: start it, or give --redis HOST:PORT (%w)", strings.Join(cfg.Addrs, ","), err))
	}
	return s, nil
}

// connectKafka connects to Kafka alone.
func (sh *shell) connectKafka(ctx context.Context) (_ *servers, err error) {
	s := &servers{}
	if s.kafka, err = sh.conn.KafkaConfig(); err != nil {
		return nil, configured(err)
	}
	if s.cluster, err = dialKafka(ctx, s.kafka); err != nil {
		return nil, err
	}
	s.release = append(s.release, func() { closing(s.cluster) })
	return s, nil
}

func dialKafka(ctx context.Context, cfg source.Config) (*source.Cluster, error) {
	cluster, err := source.NewCluster(ctx, cfg)
	if err != nil {
		return nil, reached(ctx, connect.Kafka.Explain(ctx, cfg.Brokers, cfg.TLS.Enable, err))
	}
	return cluster, nil
}

func configured(err error) error { return &Fail{Code: ExitUsage, Err: err} }

// reached makes err, with which a server was not reached, one of the command line. Only an interruption comes before it: when
// the time for a look is up, err still says which server kept it waiting.
func reached(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if errors.Is(err, connect.ErrNotConfigured) {
		return configured(err)
	}
	return &Fail{Code: ExitUnreachable, Err: err}
}

// findSpec returns the spec of a pipeline: from a file when one is given, else from Temporal. The client is nil, or
// stays connected for the caller to close.
func (sh *shell) findSpec(ctx context.Context, pipeline, file string) (*spec.Spec, client.Client, error) {
	if file != "" {
		s, err := readSpec(file)
		if err == nil && pipeline != "" && s.Name != pipeline {
			err = usagef("%s describes pipeline %s, not %s", file, s.Name, pipeline)
		}
		return s, nil, err
	}
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := specOf(ctx, c, pipeline)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return s, c, nil
}
