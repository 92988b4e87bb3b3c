package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"millrace/pipeline/address"
)

// The client would print what every call returns as an error anyway.
func init() { logging.Disable() }

// Config says how to reach Redis. Start from DefaultConfig.
type Config struct {
	Addrs    []string // host:port; of a Cluster, any of its nodes
	Cluster  bool     // Redis Cluster; implied by more than one address
	Username string
	Password string
	DB       int         // not with Cluster
	TLS      *tls.Config // nil for plain TCP

	DialTimeout  time.Duration
	ReadTimeout  time.Duration // for the answer to one command or pipeline
	WriteTimeout time.Duration // for sending one command or pipeline
	PoolTimeout  time.Duration // for a free connection
	PoolSize     int           // connections per node; lanes commit concurrently, one connection each
}

// DefaultConfig returns a configuration for a Redis on this machine.
func DefaultConfig() Config {
	return Config{
		Addrs:        []string{"127.0.0.1:6379"},
		DialTimeout:  2 * time.Second,
		ReadTimeout:  5 * time.Second,
		WriteTimeout: 5 * time.Second,
		PoolTimeout:  5 * time.Second,
		PoolSize:     32,
	}
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("redis addrs is empty, want at least one host:port"))
	}
	for i, addr := range c.Addrs {
		if err := address.Check(addr); err != nil {
			errs = append(errs, fmt.Errorf("redis addrs[%d]: %w", i, err))
		}
	}
	if c.cluster() && c.DB != 0 {
		errs = append(errs, fmt.Errorf("redis db is %d, want 0 with a cluster", c.DB))
	}
	if c.DB < 0 {
		errs = append(errs, fmt.Errorf("redis db is %d, want 0 or more", c.DB))
	}
	if c.PoolSize < 1 {
		errs = append(errs, fmt.Errorf("redis pool size is %d, want at least 1", c.PoolSize))
	}
	for _, t := range []struct {
		name  string
		value time.Duration
	}{
		{"dial", c.DialTimeout}, {"read", c.ReadTimeout}, {"write", c.WriteTimeout}, {"pool", c.PoolTimeout},
	} {
		if t.value <= 0 {
			errs = append(errs, fmt.Errorf("redis %s timeout is %v, want more than 0", t.name, t.value))
		}
	}
	return errors.Join(errs...)
}

func (c Config) cluster() bool { return c.Cluster || len(c.Addrs) > 1 }

// NewClient returns a client that never reads from replicas and never retries by itself: callers decide, and the scripts
// make repeating safe. A Cluster client still follows redirections and retries on network errors. Refusals are RefusalErrors. It
// does not connect until it is used.
func NewClient(cfg Config) (redis.UniversalClient, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                    cfg.Addrs,
		IsClusterMode:            cfg.cluster(),
		ClientName:               "millrace",
		Username:                 cfg.Username,
		Password:                 cfg.Password,
		DB:                       cfg.DB,
		TLSConfig:                cfg.TLS,
		Protocol:                 2, // pushes of RESP3 are not used
		DialTimeout:              cfg.DialTimeout,
		DialerRetries:            1,
		ReadTimeout:              cfg.ReadTimeout,
		WriteTimeout:             cfg.WriteTimeout,
		ContextTimeoutEnabled:    true,
		PoolTimeout:              cfg.PoolTimeout,
		PoolSize:                 cfg.PoolSize,
		PipelinePoolSize:         cfg.PoolSize,
		MaxRetries:               -1,
		ReadOnly:                 false,
		RouteByLatency:           false,
		RouteRandomly:            false,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.AddHook(topologyHook{cluster})
	}
	client.AddHook(refusalHook{})
	return client, nil
}
