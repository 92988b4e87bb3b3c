package dev

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// Config says how all three servers run together.
type Config struct {
	// Dir keeps the state of all servers, each in a directory of its own below. Empty means that nothing is kept.
	Dir string
	// Kafka, Redis and Temporal are as for the single servers; an empty DataDir follows from Dir.
	Kafka    KafkaConfig
	Redis    RedisConfig
	Temporal TemporalConfig
}

// Servers are the three servers a pipeline needs.
type Servers struct {
	Kafka    *Kafka
	Redis    *Redis
	Temporal *Temporal

	once sync.Once
	err  error
}

// Start starts Kafka, Redis and Temporal and returns when all are ready, or none is left running. ctx bounds the start
// only; the servers run until Close.
func Start(ctx context.Context, cfg Config) (*Servers, error) {
	if cfg.Dir != "" {
		dir, err := filepath.Abs(cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("start servers in %s: %w", cfg.Dir, err)
		}
		cfg.Kafka.DataDir = orUnder(cfg.Kafka.DataDir, dir, "kafka")
		cfg.Redis.DataDir = orUnder(cfg.Redis.DataDir, dir, "redis")
		cfg.Temporal.DataDir = orUnder(cfg.Temporal.DataDir, dir, "temporal")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &Servers{}
	temporalErr := make(chan error, 1)
	go func() {
		var err error
		s.Temporal, err = StartTemporal(ctx, cfg.Temporal)
		temporalErr <- err
	}()
	var err error
	if s.Kafka, err = StartKafka(ctx, cfg.Kafka); err == nil {
		s.Redis, err = StartRedis(ctx, cfg.Redis)
	}
	if err != nil {
		cancel() // nobody needs Temporal any more; it may still be building
	}
	if started := <-temporalErr; err == nil {
		err = started
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func orUnder(dir, parent, name string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(parent, name)
}

// Close stops all servers, Temporal first, since its workflows use the others. Calling it again returns the first answer.
func (s *Servers) Close() error {
	s.once.Do(func() {
		var errs []error
		if s.Temporal != nil {
			errs = append(errs, s.Temporal.Close())
		}
		if s.Redis != nil {
			errs = append(errs, s.Redis.Close())
		}
		if s.Kafka != nil {
			errs = append(errs, s.Kafka.Close())
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}
