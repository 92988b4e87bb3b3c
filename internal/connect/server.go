package connect

import (
	"errors"
	"fmt"

	"millrace/pipeline/address"
)

// Server is a kind of server, with what says how to reach it.
type Server struct {
	Name      string
	Flag      string // of its addresses, without dashes
	Addresses string // variable of its addresses
	group     string // of its settings
	login     string // the settings of its login
}

// The servers that Millrace needs.
var (
	Kafka    = Server{"Kafka", "kafka", EnvKafkaBrokers, "kafka", "kafka.sasl"}
	Redis    = Server{"Redis", "redis", EnvRedisAddrs, "redis", "redis.user and redis.password"}
	Temporal = Server{"Temporal", "temporal", EnvTemporalAddress, "temporal", "temporal.api_key"}
)

// labels names settings in error texts.
var labels = New().set

// label names one of the server's settings for whoever has to mend it: in the file, and as a variable.
func (s Server) label(field string) string { return labels.Label(s.group + "." + field) }

// missing is the error of a server of which nothing was said.
func (s Server) missing() error {
	return fmt.Errorf("%s is %w: give --%s HOST:PORT or set %s", s.Name, ErrNotConfigured, s.Flag, s.Addresses)
}

// check refuses addresses that are no host:port, without repeating what may be a password.
func (s Server) check(addrs []string) error {
	for i, addr := range addrs {
		err := address.Check(addr)
		if err == nil {
			continue
		}
		which := "the address"
		if len(addrs) > 1 {
			which = fmt.Sprintf("address %d of %d", i+1, len(addrs))
		}
		err = fmt.Errorf("%s of %s in --%s or %s: %w", which, s.Name, s.Flag, s.Addresses, err)
		if errors.Is(err, address.ErrCredentials) {
			err = fmt.Errorf("%w, and the login in %s", err, s.login)
		}
		return err
	}
	return nil
}
