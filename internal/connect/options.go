// Package connect holds the one table of what an operator may set, and says with it where Kafka, Redis and Temporal are and how to log
// in there. Secrets come from the environment or from files, and nothing of this ever enters a spec, a workflow input or a history.
package connect

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"millrace/internal/admin"
	"millrace/internal/settings"
	"millrace/pipeline/breaker"
	"millrace/pipeline/credential"
	"millrace/pipeline/engine"
	"millrace/pipeline/merge"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// EnvConfig names the configuration file where no --config does.
const EnvConfig = "MILLRACE_CONFIG"

// Options are all settings. New returns them with their defaults; a zero time or size stands for its default.
type Options struct {
	Kafka      KafkaOptions
	Redis      RedisOptions
	TemporalAt TemporalOptions
	Worker     WorkerOptions

	file string        // of --config
	set  *settings.Set // over the fields above; nil for options that no operator has set
}

// TLSOptions are how the connections to one kind of server are secured.
type TLSOptions struct {
	Enabled    settings.Switch // unset: on when anything else here is set
	CA         string          // PEM file of the authorities to trust
	Cert, Key  string          // PEM files of the program's certificate and its key
	ServerName string
}

// KafkaOptions say how to reach Kafka. An empty Addrs means that it was not configured.
type KafkaOptions struct {
	Addrs             []string
	TLS               TLSOptions
	Mechanism         string
	User              string
	Password          string
	PasswordFile      string
	TokenFile         string
	TokenCommand      []string
	DialTimeout       time.Duration
	RequestTimeout    time.Duration
	SessionTimeout    time.Duration
	HeartbeatInterval time.Duration
	RebalanceTimeout  time.Duration
}

// RedisOptions say how to reach Redis. An empty Addrs means that it was not configured.
type RedisOptions struct {
	Addrs        []string
	Mode         string
	TLS          TLSOptions
	User         string
	Password     string
	PasswordFile string
	DB           int
	Sentinel     SentinelOptions
	PoolSize     int
	DialTimeout  time.Duration
	ReadTimeout  time.Duration
	WriteTimeout time.Duration
	PoolTimeout  time.Duration
}

// SentinelOptions are what Sentinel wants beside the addresses of the sentinels.
type SentinelOptions struct {
	Master       string
	User         string
	Password     string
	PasswordFile string
}

// TemporalOptions say how to reach Temporal. What is empty is left to Temporal's own variables and profile file.
type TemporalOptions struct {
	Address, Namespace string
	TLS                TLSOptions
	APIKey             string
	APIKeyFile         string
	Codec              CodecOptions
}

// CodecOptions are the keys with which payloads are encrypted. Without any they are not.
type CodecOptions struct {
	Keys []string // ID=FILE; the first encrypts
	Dir  string   // whose files are keys, named by their ids; the last by name encrypts
}

// WorkerOptions are what only a worker reads.
type WorkerOptions struct {
	Name            string
	WAL             WAL
	ReportsLimit    settings.Size
	Breaker         breaker.Thresholds
	Storm           engine.StormLimit
	Admin           admin.Config
	LogText         bool
	Verbose         bool
	NoWorkflowCache bool
	StateFormat     string // StateAuto, StateFields or StatePages
	MergeCache      settings.Size
	TracedBatches   float64 // share of batches that are followed where spans are exported
}

// Values of WorkerOptions.StateFormat: what turns the lanes of a worker from entries in fields of hashes to state pages.
const (
	StateAuto   = "auto"   // they turn as soon as every worker of the fleet reads pages
	StateFields = "fields" // they do not turn; lanes that are in pages stay so
	StatePages  = "pages"  // they turn, whatever the other workers read
)

// DefaultTracedBatches is WorkerOptions.TracedBatches where nothing says otherwise.
const DefaultTracedBatches = 0.01

// New returns the options as they are before anything is read.
func New() *Options {
	o := &Options{}
	o.Worker.TracedBatches, o.Worker.StateFormat = DefaultTracedBatches, StateAuto
	o.Worker.MergeCache = merge.DefaultCacheBytes
	k, r := source.Config{}.WithDefaults(), store.DefaultConfig()
	o.Kafka.DialTimeout, o.Kafka.RequestTimeout, o.Kafka.SessionTimeout = k.DialTimeout, k.RequestTimeout, k.SessionTimeout
	o.Kafka.HeartbeatInterval, o.Kafka.RebalanceTimeout = k.HeartbeatInterval, k.RebalanceTimeout
	o.Redis.Mode, o.Redis.PoolSize = string(store.Auto), r.PoolSize
	o.Redis.DialTimeout, o.Redis.ReadTimeout, o.Redis.WriteTimeout, o.Redis.PoolTimeout = r.DialTimeout, r.ReadTimeout, r.WriteTimeout, r.PoolTimeout
	o.Worker.Breaker, o.Worker.Storm = breaker.DefaultThresholds(), engine.DefaultStormLimit
	o.set = settings.NewSet(append(o.table(), o.workerTable()...))
	return o
}

// AddFlags adds the flags of all settings that have one, those of a worker if worker is set. There is none for a secret: it would
// show in a list of processes.
func (o *Options) AddFlags(flags *pflag.FlagSet, worker bool) {
	flags.StringVar(&o.file, "config", "", "configuration file; flags and variables go before it (or "+EnvConfig+")")
	o.set.AddFlags(flags, worker)
}

// Resolve reads the configuration file and the environment. Flags that were set go before both.
func (o *Options) Resolve(flags *pflag.FlagSet, getenv func(string) string, worker bool) error {
	if o.set == nil {
		return nil
	}
	file := o.file
	if file == "" {
		file = getenv(EnvConfig)
	}
	return o.set.Resolve(settings.Source{Getenv: getenv, Flags: flags, File: file, Worker: worker})
}

// Settings are the table and where each value came from.
func (o *Options) Settings() *settings.Set { return o.set }

// ErrNotConfigured is found in the errors about a server of which nothing was said.
var ErrNotConfigured = errors.New("not configured")

// secure says how to make connections. What is wrong with the files is found when they are read.
func (t *TLSOptions) secure(of Server) (credential.TLS, error) {
	given := ""
	for _, f := range []struct{ field, value string }{
		{"tls.ca", t.CA}, {"tls.cert", t.Cert}, {"tls.key", t.Key}, {"tls.server_name", t.ServerName},
	} {
		if f.value != "" {
			given = of.label(f.field)
			break
		}
	}
	if given != "" && t.Enabled == settings.Off {
		return credential.TLS{}, fmt.Errorf("%s is false, and %s is set; leave one of them out", of.label("tls.enabled"), given)
	}
	if (t.Cert == "") != (t.Key == "") {
		return credential.TLS{}, fmt.Errorf("%s and %s go together; set both or neither", of.label("tls.cert"), of.label("tls.key"))
	}
	return credential.TLS{
		Enable: t.Enabled == settings.On || given != "",
		CAFile: t.CA, CertFile: t.Cert, KeyFile: t.Key, ServerName: t.ServerName,
	}, nil
}

// secret is what was said outright, or what stands in the file.
func secret(text, file string) credential.Secret {
	if text == "" && file != "" {
		return credential.InFile(file)
	}
	return credential.Text(text)
}
