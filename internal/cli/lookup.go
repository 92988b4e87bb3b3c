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
	redisAt store.Config
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

// errRedisAway is found in the error of a command that did not reach Redis, which tells it from one that did not reach Kafka.
var errRedisAway = errors.New("does not answer")

// connectData connects to Kafka and Redis. On an error nothing stays open.
func (sh *shell) connectData(ctx context.Context) (*servers, error) {
	kafka, err := sh.conn.KafkaConfig()
	if err != nil {
		return nil, configured(err)
	}
	cfg, err := sh.conn.RedisConfig()
	if err != nil {
		return nil, configured(err)
	}
	s, err := dialKafka(ctx, kafka)
	if err != nil {
		return nil, err
	}
	if err := s.dialRedis(ctx, cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connectRedis connects to Redis alone.
func (sh *shell) connectRedis(ctx context.Context) (*servers, error) {
	cfg, err := sh.conn.RedisConfig()
	if err != nil {
		return nil, configured(err)
	}
	s := new(servers)
	if err := s.dialRedis(ctx, cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *servers) dialRedis(ctx context.Context, cfg store.Config) (err error) {
	if s.redis, err = store.NewClient(cfg); err != nil {
		return configured(err)
	}
	s.release = append(s.release, func() { closing(s.redis) })
	s.redisAt, s.store = cfg, store.New(s.redis)
	return s.pingRedis(ctx)
}

// pingRedis returns an errRedisAway unless Redis answers within pingLimit.
func (s *servers) pingRedis(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	err := s.redis.Ping(limited).Err()
	if err == nil {
		return nil
	}
	err = connect.ExplainRedis(ctx, s.redisAt, err)
	return reached(ctx, unreachablef("Redis at %s %w: start it, or give --redis HOST:PORT (%w)",
		strings.Join(s.redisAt.Addrs, ","), errRedisAway, err))
}

// connectKafka connects to Kafka alone.
func (sh *shell) connectKafka(ctx context.Context) (*servers, error) {
	cfg, err := sh.conn.KafkaConfig()
	if err != nil {
		return nil, configured(err)
	}
	return dialKafka(ctx, cfg)
}

func dialKafka(ctx context.Context, cfg source.Config) (*servers, error) {
	cluster, err := source.NewCluster(ctx, cfg)
	if err != nil {
		err = connect.ExplainKafka(ctx, cfg, err)
		if errors.Is(err, source.ErrUnreachable) {
			err = unreachablef("Kafka at %s does not answer: start it, or give --kafka HOST:PORT (%w)", strings.Join(cfg.Brokers, ","), err)
		}
		return nil, reached(ctx, err)
	}
	return &servers{kafka: cfg, cluster: cluster, release: []func(){func() { closing(cluster) }}}, nil
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

// readSpecOf reads a spec and refuses one of another pipeline. Any will do when pipeline is "".
func readSpecOf(pipeline, file string) (*spec.Spec, error) {
	s, err := readSpec(file)
	if err == nil && pipeline != "" && s.Name != pipeline {
		err = usagef("%s describes pipeline %s, not %s", file, s.Name, pipeline)
	}
	return s, err
}

// findSpec returns the spec of a pipeline: from a file when one is given, else from Temporal. The client is nil, or
// stays connected for the caller to close.
func (sh *shell) findSpec(ctx context.Context, pipeline, file string) (*spec.Spec, client.Client, error) {
	if file != "" {
		s, err := readSpecOf(pipeline, file)
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
