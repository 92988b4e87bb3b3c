// Package connect says where Kafka, Redis and Temporal are and how to log in there: from the environment, overridden by
// flags. Secrets come from the environment alone, and nothing of this ever enters a spec, a workflow input or a history.
package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// The environment variables that are read beside Temporal's own (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, ...).
const (
	EnvKafkaBrokers  = "MILLRACE_KAFKA_BROKERS" // host:port, comma-separated
	EnvKafkaTLS      = "MILLRACE_KAFKA_TLS"     // 1: TLS
	EnvKafkaCA       = "MILLRACE_KAFKA_CA"      // PEM file of the authorities to trust; implies TLS
	EnvKafkaSASL     = "MILLRACE_KAFKA_SASL"    // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
	EnvKafkaUser     = "MILLRACE_KAFKA_USER"
	EnvKafkaPassword = "MILLRACE_KAFKA_PASSWORD"
	EnvRedisAddrs    = "MILLRACE_REDIS_ADDRS" // host:port, comma-separated; several: a Redis Cluster
	EnvRedisTLS      = "MILLRACE_REDIS_TLS"   // 1: TLS
	EnvRedisCA       = "MILLRACE_REDIS_CA"    // PEM file of the authorities to trust; implies TLS
	EnvRedisUser     = "MILLRACE_REDIS_USER"
	EnvRedisPassword = "MILLRACE_REDIS_PASSWORD"
	EnvWALDir        = "MILLRACE_WAL_DIR"         // a directory of this worker's own on a local disk
	EnvWALSoftLimit  = "MILLRACE_WAL_SOFT_LIMIT"  // bytes, or with KiB, MiB, GiB
	EnvWALHardLimit  = "MILLRACE_WAL_HARD_LIMIT"  // likewise
	EnvWALAsideLimit = "MILLRACE_WAL_ASIDE_LIMIT" // likewise
	EnvWALAsideAge   = "MILLRACE_WAL_ASIDE_AGE"   // such as 30d
)

// Endpoint is one kind of server. An empty Addrs means that it was not configured.
type Endpoint struct {
	Addrs    []string
	TLS      bool
	CA       string // PEM file
	User     string
	Password string
}

// Options is the whole of it.
type Options struct {
	Kafka             Endpoint
	KafkaSASL         string
	Redis             Endpoint
	TemporalAddress   string // "": Temporal's own environment and profile decide
	TemporalNamespace string // likewise
}

// FromEnv reads the environment through getenv.
func FromEnv(getenv func(string) string) *Options {
	return &Options{
		Kafka: Endpoint{
			Addrs: list(getenv(EnvKafkaBrokers)), TLS: on(getenv(EnvKafkaTLS)) || getenv(EnvKafkaCA) != "",
			CA: getenv(EnvKafkaCA), User: getenv(EnvKafkaUser), Password: getenv(EnvKafkaPassword),
		},
		KafkaSASL: strings.ToUpper(getenv(EnvKafkaSASL)),
		Redis: Endpoint{
			Addrs: list(getenv(EnvRedisAddrs)), TLS: on(getenv(EnvRedisTLS)) || getenv(EnvRedisCA) != "",
			CA: getenv(EnvRedisCA), User: getenv(EnvRedisUser), Password: getenv(EnvRedisPassword),
		},
	}
}

// AddFlags lets flags override what the environment says. There is no flag for a password: it would show in ps.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.Kafka.Addrs, "kafka", o.Kafka.Addrs, "Kafka brokers, host:port,... (or "+EnvKafkaBrokers+")")
	flags.StringSliceVar(&o.Redis.Addrs, "redis", o.Redis.Addrs, "Redis addresses, host:port,... (or "+EnvRedisAddrs+")")
	flags.StringVar(&o.TemporalAddress, "temporal", o.TemporalAddress, "Temporal frontend, host:port (or TEMPORAL_ADDRESS)")
	flags.StringVar(&o.TemporalNamespace, "namespace", o.TemporalNamespace, "Temporal namespace (or TEMPORAL_NAMESPACE)")
	// Help would show what the environment says as defaults.
	for name, none := range map[string]string{Kafka.Flag: "[]", Redis.Flag: "[]", Temporal.Flag: ""} {
		flags.Lookup(name).DefValue = none
	}
}

// IsAddressFlag reports whether a flag takes addresses, in which somebody may have written a password.
func IsAddressFlag(name string) bool {
	return name == Kafka.Flag || name == Redis.Flag || name == Temporal.Flag
}

// ErrNotConfigured is found in the errors about a server of which nothing was said.
var ErrNotConfigured = errors.New("not configured")

// KafkaConfig says how to reach Kafka.
func (o *Options) KafkaConfig() (source.Config, error) {
	if len(o.Kafka.Addrs) == 0 {
		return source.Config{}, Kafka.missing()
	}
	if err := Kafka.check(o.Kafka.Addrs); err != nil {
		return source.Config{}, err
	}
	cfg := source.Config{
		Brokers: o.Kafka.Addrs,
		TLS:     source.TLS{Enable: o.Kafka.TLS, CAFile: o.Kafka.CA},
		SASL:    source.SASL{Mechanism: o.KafkaSASL, User: o.Kafka.User, Password: o.Kafka.Password},
	}
	return cfg, cfg.Validate()
}

// RedisConfig says how to reach Redis.
func (o *Options) RedisConfig() (store.Config, error) {
	if len(o.Redis.Addrs) == 0 {
		return store.Config{}, Redis.missing()
	}
	if err := Redis.check(o.Redis.Addrs); err != nil {
		return store.Config{}, err
	}
	cfg := store.DefaultConfig()
	cfg.Addrs, cfg.Username, cfg.Password = o.Redis.Addrs, o.Redis.User, o.Redis.Password
	var err error
	if cfg.TLS, err = o.Redis.tls(); err != nil {
		return store.Config{}, err
	}
	return cfg, cfg.Validate()
}

func (e *Endpoint) tls() (*tls.Config, error) {
	if !e.TLS {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(e.CA)
	if err != nil {
		return nil, fmt.Errorf("redis tls: CA file: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redis tls: CA file %s holds no PEM certificate", e.CA)
	}
	return cfg, nil
}

func on(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "false", "no", "off":
		return false
	}
	return true
}

func list(v string) []string {
	var out []string
	for _, item := range strings.Split(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}
