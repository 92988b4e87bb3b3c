package connect

import (
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
)

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
	if opts.Namespace == "" {
		opts.Namespace = client.DefaultNamespace
	}
	return opts, nil
}
