package source

import (
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/address"
	"millrace/pipeline/credential"
	"millrace/pipeline/measure"
)

// Config says how to reach Kafka. Secrets live here and never in a spec. The zero value of everything but Brokers is a
// sensible default.
type Config struct {
	// Brokers are host:port addresses to start from; one that answers is enough.
	Brokers []string
	// ClientID is what brokers log and count quotas by (default "millrace").
	ClientID string
	TLS      credential.TLS
	SASL     SASL
	// DialTimeout bounds connecting to one broker (default 5 s).
	DialTimeout time.Duration
	// RequestTimeout bounds waiting for one answer, and a whole query of Cluster with its retries (default 10 s).
	RequestTimeout time.Duration
	// SessionTimeout is how long a silent member keeps its lanes (default 30 s; brokers allow 6 s to 30 min).
	SessionTimeout time.Duration
	// HeartbeatInterval is how often a member reports and so learns of a rebalance (default 1 s).
	HeartbeatInterval time.Duration
	// RebalanceTimeout is how long a lane that is taken away may take to commit and stop (default 60 s).
	RebalanceTimeout time.Duration
	// Calls counts the calls to the brokers. Nil: nobody does.
	Calls *measure.Server
}

// SASL authentication. The zero value means none.
type SASL struct {
	// Mechanism is one of Mechanisms.
	Mechanism string
	User      string            // for PLAIN and SCRAM
	Password  credential.Secret // likewise
	Tokens    *credential.Tokens
}

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "millrace"
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.DialTimeout, 5 * time.Second},
		{&c.RequestTimeout, 10 * time.Second},
		{&c.SessionTimeout, 30 * time.Second},
		{&c.HeartbeatInterval, time.Second},
		{&c.RebalanceTimeout, time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return c
}

// Validate names every wrong option with its value and what would be right.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka brokers: none given; want host:port, for example localhost:9092"))
	}
	for i, addr := range c.Brokers {
		if err := address.Check(addr); err != nil {
			errs = append(errs, fmt.Errorf("kafka brokers: address %d: %w", i+1, err))
		}
	}
	for _, d := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"dial timeout", c.DialTimeout, 10 * time.Millisecond, 5 * time.Minute},
		{"request timeout", c.RequestTimeout, 2 * fetchWait, 5 * time.Minute},
		{"session timeout", c.SessionTimeout, time.Second, 30 * time.Minute},
		{"heartbeat interval", c.HeartbeatInterval, 10 * time.Millisecond, c.SessionTimeout / 3},
		{"rebalance timeout", c.RebalanceTimeout, time.Second, time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			errs = append(errs, fmt.Errorf("kafka %s: %s is outside %s to %s", d.name, d.value, d.min, d.max))
		}
	}
	if err := c.SASL.validate(); err != nil {
		errs = append(errs, fmt.Errorf("kafka sasl: %w", err))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("kafka tls: certificate and key files go together"))
	}
	return errors.Join(errs...)
}
