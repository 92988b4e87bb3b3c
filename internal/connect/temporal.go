package connect

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

// TemporalTarget is the address in what gRPC takes for one: its resolver may stand before it.
func TemporalTarget(hostPort string) string {
	for _, resolver := range []string{"dns:///", "passthrough:///"} {
		hostPort = strings.TrimPrefix(hostPort, resolver)
	}
	return hostPort
}

// TemporalTLS reports whether a client with these options speaks TLS: one with an API key does, too.
func TemporalTLS(opts client.Options) bool {
	return opts.ConnectionOptions.TLS != nil || opts.Credentials != nil && !opts.ConnectionOptions.TLSDisabled
}

// Temporal returns the options of a Temporal client: Temporal's own environment variables and profile file, then the
// flags.
func (o *Options) Temporal() (client.Options, error) {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return client.Options{}, fmt.Errorf("environment or profile of Temporal: %w", err)
	}
	if o.TemporalAddress != "" {
		opts.HostPort = o.TemporalAddress
	}
	if o.TemporalNamespace != "" {
		opts.Namespace = o.TemporalNamespace
	}
	if opts.HostPort == "" {
		opts.HostPort = client.DefaultHostPort
	}
	if err := Temporal.check([]string{TemporalTarget(opts.HostPort)}); err != nil {
		return client.Options{}, err
	}
	if opts.Namespace == "" {
		opts.Namespace = client.DefaultNamespace
	}
	return opts, nil
}
