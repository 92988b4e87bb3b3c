package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"millrace/pipeline/address"
	"millrace/pipeline/credential"
	"millrace/pipeline/measure"
)

// The client would print what every call returns as an error anyway.
func init() { logging.Disable() }

// Mode is what kind of Redis the addresses are of.
type Mode string

// The modes. Auto is Sentinel when there is a master's name, Cluster with more than one address, and Single otherwise.
const (
	Auto     Mode = "auto"
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

// Modes are all of them.
var Modes = []Mode{Auto, Single, Sentinel, Cluster}

// Config says how to reach Redis. Start from DefaultConfig.
type Config struct {
	Addrs    []string // host:port; of a Cluster any of its nodes, of Sentinel the sentinels
	Mode     Mode     // "" is Auto
	Username string
	Password credential.Secret
	DB       int            // not with Cluster
	TLS      credential.TLS // also of the connections to sentinels

	MasterName       string // what the sentinels call the primary
	SentinelUsername string // the sentinels have users of their own
	SentinelPassword credential.Secret

	DialTimeout  time.Duration
	ReadTimeout  time.Duration // for the answer to one command or pipeline
	WriteTimeout time.Duration // for sending one command or pipeline
	PoolTimeout  time.Duration // for a free connection
	// PoolSize is how many connections each node gets: lanes commit concurrently, one connection each. Pipelines have as many once
	// more.
	PoolSize int

	Calls *measure.Server // counts calls; nil: nobody does
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
	if c.Mode != "" && !slices.Contains(Modes, c.Mode) {
		errs = append(errs, fmt.Errorf("redis mode is %q, want one of %v", c.Mode, Modes))
	}
	mode := c.InForce()
	switch {
	case mode == Sentinel && c.MasterName == "":
		errs = append(errs, errors.New("redis mode is sentinel without a master name, want what the sentinels call the primary"))
	case mode != Sentinel && c.MasterName != "":
		errs = append(errs, fmt.Errorf("redis mode is %s with the master name %q, want the mode sentinel or no master name", mode, c.MasterName))
	case mode == Single && len(c.Addrs) > 1:
		errs = append(errs, fmt.Errorf("redis mode is single with %d addresses, want one", len(c.Addrs)))
	}
	if mode != Sentinel && (c.SentinelUsername != "" || c.SentinelPassword.Given()) {
		errs = append(errs, fmt.Errorf("redis mode is %s with a login for sentinels, want the mode sentinel or no such login", mode))
	}
	if mode == Cluster && c.DB != 0 {
		errs = append(errs, fmt.Errorf("redis db is %d, want 0 with a cluster", c.DB))
	}
	if c.Username != "" && !c.Password.Given() {
		errs = append(errs, fmt.Errorf("redis user %q has no password, want both", c.Username))
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

// InForce is the mode that Auto stands for, or the one that was chosen.
func (c Config) InForce() Mode {
	switch {
	case c.Mode != Auto && c.Mode != "":
		return c.Mode
	case c.MasterName != "":
		return Sentinel
	case len(c.Addrs) > 1:
		return Cluster
	}
	return Single
}

// NewClient returns a client that never reads from replicas and never retries by itself: callers decide, and the scripts
// make repeating safe. A Cluster client still follows redirections and retries on network errors. Refusals are RefusalErrors. It
// does not connect until it is used. Passwords and certificates in files are those of the moment at which a connection is made,
// but for the password of the sentinels, which the library takes once.
func NewClient(cfg Config) (redis.UniversalClient, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	secure, err := cfg.TLS.Client()
	if err != nil {
		return nil, fmt.Errorf("redis tls: %w", err)
	}
	if _, err := cfg.Password.Get(); err != nil {
		return nil, fmt.Errorf("redis password: %w", err)
	}
	sentinelPassword, err := cfg.SentinelPassword.Get()
	if err != nil {
		return nil, fmt.Errorf("redis sentinel password: %w", err)
	}
	mode := cfg.InForce()
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:            cfg.Addrs,
		IsClusterMode:    mode == Cluster,
		MasterName:       cfg.MasterName,
		SentinelUsername: cfg.SentinelUsername,
		SentinelPassword: sentinelPassword,
		ClientName:       "millrace",
		DB:               cfg.DB,
		CredentialsProviderContext: func(context.Context) (user, password string, err error) {
			password, err = cfg.Password.Get()
			return cfg.Username, password, err
		},
		Dialer:                   dialer(cfg.DialTimeout, secure),
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
	if cfg.Calls != nil {
		client.AddHook(callsHook{cfg.Calls})
	}
	return client, nil
}

// dialer connects within timeout, the TLS handshake included.
func dialer(timeout time.Duration, secure *credential.Client) func(context.Context, string, string) (net.Conn, error) {
	// As the client itself does: balancers and address translation forget a connection after a minute at the earliest.
	plain := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		raw, err := plain.DialContext(ctx, network, addr)
		if err != nil || secure == nil {
			return raw, err
		}
		conn, err := secure.Handshake(ctx, raw, addr)
		if err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		return conn, nil
	}
}
