package connect

import (
	"fmt"
	"strings"
)

// Variable is one that is read from the environment.
type Variable struct {
	Name, Help string
}

// Variables are those that say where Kafka, Redis and Temporal are and how to log in there.
var Variables = []Variable{
	{EnvKafkaBrokers, "host:port of brokers, comma-separated"},
	{EnvKafkaTLS, "1: TLS"},
	{EnvKafkaCA, "PEM file of the authorities to trust; implies TLS"},
	{EnvKafkaSASL, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"},
	{EnvKafkaUser, "for SASL"},
	{EnvKafkaPassword, "for SASL"},
	{EnvRedisAddrs, "host:port, comma-separated; several: a Redis Cluster"},
	{EnvRedisTLS, "1: TLS"},
	{EnvRedisCA, "PEM file of the authorities to trust; implies TLS"},
	{EnvRedisUser, "ACL user, without one the default user"},
	{EnvRedisPassword, "of that user"},
	{envTemporalAddress, "host:port of the frontend"},
	{envTemporalNamespace, "namespace (default \"default\")"},
	{envTemporalKey, "API key; implies TLS"},
	{envTemporalTLS, "1: TLS"},
	{envTemporalCA, "PEM file of the authorities to trust"},
	{envTemporalCert, "PEM file of the client's certificate"},
	{envTemporalCertKey, "PEM file of its key"},
}

// Temporal's own variables, which its command line reads too. It has more: profiles, a codec, single headers.
const (
	envTemporalAddress   = "TEMPORAL_ADDRESS"
	envTemporalNamespace = "TEMPORAL_NAMESPACE"
	envTemporalKey       = "TEMPORAL_API_KEY"
	envTemporalTLS       = "TEMPORAL_TLS"
	envTemporalCA        = "TEMPORAL_TLS_SERVER_CA_CERT_PATH"
	envTemporalCert      = "TEMPORAL_TLS_CLIENT_CERT_PATH"
	envTemporalCertKey   = "TEMPORAL_TLS_CLIENT_KEY_PATH"
)

// VariablesHelp lists the variables for a help text, one a line.
func VariablesHelp() string {
	var b strings.Builder
	for _, v := range Variables {
		fmt.Fprintf(&b, "  %-33s %s\n", v.Name, v.Help)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
