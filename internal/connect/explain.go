package connect

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"millrace/pipeline/address"
)

// Server is a kind of server, with what says how to reach it.
type Server struct {
	Name      string
	Flag      string // of its addresses, without dashes
	Addresses string // variable, as the others are
	TLS       string
	CA        string
	Password  string
}

// The servers that Millrace needs.
var (
	Kafka    = Server{"Kafka", "kafka", EnvKafkaBrokers, EnvKafkaTLS, EnvKafkaCA, EnvKafkaUser + " and " + EnvKafkaPassword}
	Redis    = Server{"Redis", "redis", EnvRedisAddrs, EnvRedisTLS, EnvRedisCA, EnvRedisUser + " and " + EnvRedisPassword}
	Temporal = Server{"Temporal", "temporal", envTemporalAddress, envTemporalTLS, envTemporalCA, envTemporalKey}
)

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
			err = fmt.Errorf("%w, and the login in %s", err, s.Password)
		}
		return err
	}
	return nil
}

// Explain adds to the error of a connection that could not be used what TLS has to do with it: that one side speaks it and
// the other does not, or that the server's authority is unknown. Any other error is returned as it is. It takes a few
// seconds of ctx at most, and does nothing when ctx has ended.
func (s Server) Explain(ctx context.Context, addrs []string, tls bool, err error) error {
	var authority x509.UnknownAuthorityError
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.As(err, &authority), strings.Contains(err.Error(), authority.Error()): // gRPC keeps no more than the text
		return fmt.Errorf("the certificate of %s is signed by an authority that is not trusted: name its file in %s (%w)",
			s.Name, s.CA, err)
	}
	for _, addr := range addrs {
		speech := address.Probe(ctx, addr)
		switch {
		case speech == address.TLS && !tls:
			return fmt.Errorf("%s at %s answers with TLS, and this program does not: is TLS on? Set %s=1 (%w)", s.Name, addr, s.TLS, err)
		case speech == address.Plain && tls:
			return fmt.Errorf("%s at %s does not answer with TLS, and this program does: is TLS on there? Without it unset %s and %s (%w)",
				s.Name, addr, s.TLS, s.CA, err)
		}
	}
	return err
}
