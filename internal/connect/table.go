package connect

import (
	"time"

	"millrace/internal/settings"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// The variables that are named outside of the table: they say where the servers are.
const (
	EnvKafkaBrokers    = "MILLRACE_KAFKA_BROKERS"
	EnvRedisAddrs      = "MILLRACE_REDIS_ADDRS"
	EnvTemporalAddress = "TEMPORAL_ADDRESS"
)

// What file settings want.
const (
	wantPEM    = "a PEM file"
	wantSecret = "a file of at most 64 KiB that holds nothing else"
	wantAddrs  = "host:port, several with commas between them"
)

// table is the settings of the connections.
func (o *Options) table() []settings.Setting {
	k, r, t := &o.Kafka, &o.Redis, &o.TemporalAt
	const longest = 10 * time.Minute
	return []settings.Setting{
		{Name: "kafka.brokers", Env: EnvKafkaBrokers, Flag: "kafka", Value: settings.List(&k.Addrs, wantAddrs), Shown: shownAddrs,
			Help: "Kafka brokers, host:port,...; one that answers is enough"},
		{Name: "kafka.tls.enabled", Env: "MILLRACE_KAFKA_TLS", Flag: "kafka-tls", Value: settings.OnOff(&k.TLS.Enabled),
			Help: "TLS to Kafka; any other kafka.tls setting implies it"},
		{Name: "kafka.tls.ca", Env: "MILLRACE_KAFKA_CA", Flag: "kafka-ca", Value: settings.Path(&k.TLS.CA, wantPEM),
			Help: "PEM file of the authorities to trust for Kafka, instead of the system's"},
		{Name: "kafka.tls.cert", Env: "MILLRACE_KAFKA_CERT", Flag: "kafka-cert", Value: settings.Path(&k.TLS.Cert, wantPEM),
			Help: "PEM file of the certificate to show Kafka"},
		{Name: "kafka.tls.key", Env: "MILLRACE_KAFKA_KEY", Flag: "kafka-key", Value: settings.Path(&k.TLS.Key, wantPEM),
			Help: "PEM file of that certificate's key"},
		{Name: "kafka.tls.server_name", Env: "MILLRACE_KAFKA_SERVER_NAME", Flag: "kafka-server-name",
			Value: settings.Text(&k.TLS.ServerName, "a host name", nil),
			Help:  "name to expect in the brokers' certificates, instead of their hosts'"},
		{Name: "kafka.sasl.mechanism", Env: "MILLRACE_KAFKA_SASL", Flag: "kafka-sasl",
			Value: settings.Choice(&k.Mechanism, true, source.Mechanisms...),
			Help:  "how to log in to Kafka: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"},
		{Name: "kafka.sasl.user", Env: "MILLRACE_KAFKA_USER", Flag: "kafka-user", Value: settings.Text(&k.User, "a name", nil),
			Help: "user for PLAIN and SCRAM"},
		{Name: "kafka.sasl.password", Env: "MILLRACE_KAFKA_PASSWORD", Secret: true, Value: settings.Secret(&k.Password),
			Help: "password of that user"},
		{Name: "kafka.sasl.password_file", Env: "MILLRACE_KAFKA_PASSWORD_FILE", Flag: "kafka-password-file",
			Value: settings.Path(&k.PasswordFile, wantSecret), Help: "file that holds the password"},
		{Name: "kafka.sasl.token_file", Env: "MILLRACE_KAFKA_TOKEN_FILE", Flag: "kafka-token-file",
			Value: settings.Path(&k.TokenFile, wantSecret),
			Help:  "file that holds the token for OAUTHBEARER; it is read anew when it has changed"},
		{Name: "kafka.sasl.token_command", Env: "MILLRACE_KAFKA_TOKEN_COMMAND", Flag: "kafka-token-command",
			Value: settings.Words(&k.TokenCommand, "a program and its arguments"), Shown: shownCommand,
			Help: "program with arguments that prints a token for OAUTHBEARER within 5s; no shell, arguments are public"},
		{Name: "kafka.dial_timeout", Env: "MILLRACE_KAFKA_DIAL_TIMEOUT", Flag: "kafka-dial-timeout",
			Value: settings.Span(&k.DialTimeout, 10*time.Millisecond, 5*time.Minute), Help: "longest connecting to one broker, TLS included"},
		{Name: "kafka.request_timeout", Env: "MILLRACE_KAFKA_REQUEST_TIMEOUT", Flag: "kafka-request-timeout",
			Value: settings.Span(&k.RequestTimeout, time.Second, 5*time.Minute), Help: "longest wait for one answer of a broker"},
		{Name: "kafka.session_timeout", Env: "MILLRACE_KAFKA_SESSION_TIMEOUT", Flag: "kafka-session-timeout",
			Value: settings.Span(&k.SessionTimeout, time.Second, 30*time.Minute), Help: "how long a silent member of a group keeps its lanes"},
		{Name: "kafka.heartbeat_interval", Env: "MILLRACE_KAFKA_HEARTBEAT_INTERVAL", Flag: "kafka-heartbeat-interval",
			Value: settings.Span(&k.HeartbeatInterval, 10*time.Millisecond, longest),
			Help:  "how often a member reports; at most a third of the session timeout"},
		{Name: "kafka.rebalance_timeout", Env: "MILLRACE_KAFKA_REBALANCE_TIMEOUT", Flag: "kafka-rebalance-timeout",
			Value: settings.Span(&k.RebalanceTimeout, time.Second, time.Hour),
			Help:  "how long a lane that is taken away may take to commit and stop"},

		{Name: "redis.addrs", Env: EnvRedisAddrs, Flag: "redis", Value: settings.List(&r.Addrs, wantAddrs), Shown: shownAddrs,
			Help: "Redis addresses, host:port,...; of a Cluster any of its nodes, of Sentinel the sentinels"},
		{Name: "redis.mode", Env: "MILLRACE_REDIS_MODE", Flag: "redis-mode", Value: settings.Choice(&r.Mode, false, redisModes()...),
			Help: "auto, single, sentinel or cluster; auto is sentinel with a master name, cluster with several addresses, else single"},
		{Name: "redis.tls.enabled", Env: "MILLRACE_REDIS_TLS", Flag: "redis-tls", Value: settings.OnOff(&r.TLS.Enabled),
			Help: "TLS to Redis and the sentinels; any other redis.tls setting implies it"},
		{Name: "redis.tls.ca", Env: "MILLRACE_REDIS_CA", Flag: "redis-ca", Value: settings.Path(&r.TLS.CA, wantPEM),
			Help: "PEM file of the authorities to trust for Redis, instead of the system's"},
		{Name: "redis.tls.cert", Env: "MILLRACE_REDIS_CERT", Flag: "redis-cert", Value: settings.Path(&r.TLS.Cert, wantPEM),
			Help: "PEM file of the certificate to show Redis"},
		{Name: "redis.tls.key", Env: "MILLRACE_REDIS_KEY", Flag: "redis-key", Value: settings.Path(&r.TLS.Key, wantPEM),
			Help: "PEM file of that certificate's key"},
		{Name: "redis.tls.server_name", Env: "MILLRACE_REDIS_SERVER_NAME", Flag: "redis-server-name",
			Value: settings.Text(&r.TLS.ServerName, "a host name", nil),
			Help:  "name to expect in the servers' certificates, instead of their hosts'"},
		{Name: "redis.user", Env: "MILLRACE_REDIS_USER", Flag: "redis-user", Value: settings.Text(&r.User, "a name", nil),
			Help: "ACL user, without one the default user"},
		{Name: "redis.password", Env: "MILLRACE_REDIS_PASSWORD", Secret: true, Value: settings.Secret(&r.Password),
			Help: "password of that user"},
		{Name: "redis.password_file", Env: "MILLRACE_REDIS_PASSWORD_FILE", Flag: "redis-password-file",
			Value: settings.Path(&r.PasswordFile, wantSecret), Help: "file that holds the password; it is read anew when it has changed"},
		{Name: "redis.db", Env: "MILLRACE_REDIS_DB", Flag: "redis-db", Value: settings.Int(&r.DB, 0, 1<<16),
			Help: "number of the database; 0 with a Cluster"},
		{Name: "redis.sentinel.master", Env: "MILLRACE_REDIS_SENTINEL_MASTER", Flag: "redis-sentinel-master",
			Value: settings.Text(&r.Sentinel.Master, "a name", nil), Help: "what the sentinels call the primary"},
		{Name: "redis.sentinel.user", Env: "MILLRACE_REDIS_SENTINEL_USER", Flag: "redis-sentinel-user",
			Value: settings.Text(&r.Sentinel.User, "a name", nil), Help: "ACL user of the sentinels"},
		{Name: "redis.sentinel.password", Env: "MILLRACE_REDIS_SENTINEL_PASSWORD", Secret: true, Value: settings.Secret(&r.Sentinel.Password),
			Help: "password of the sentinels"},
		{Name: "redis.sentinel.password_file", Env: "MILLRACE_REDIS_SENTINEL_PASSWORD_FILE", Flag: "redis-sentinel-password-file",
			Value: settings.Path(&r.Sentinel.PasswordFile, wantSecret), Help: "file that holds the password of the sentinels"},
		{Name: "redis.pool_size", Env: "MILLRACE_REDIS_POOL_SIZE", Flag: "redis-pool-size", Value: settings.Int(&r.PoolSize, 1, 10_000),
			Help: "connections to each node; pipelines have as many once more"},
		{Name: "redis.dial_timeout", Env: "MILLRACE_REDIS_DIAL_TIMEOUT", Flag: "redis-dial-timeout",
			Value: settings.Span(&r.DialTimeout, 10*time.Millisecond, longest), Help: "longest connecting to a node, TLS included"},
		{Name: "redis.read_timeout", Env: "MILLRACE_REDIS_READ_TIMEOUT", Flag: "redis-read-timeout",
			Value: settings.Span(&r.ReadTimeout, 10*time.Millisecond, longest), Help: "longest wait for the answer to a command or pipeline"},
		{Name: "redis.write_timeout", Env: "MILLRACE_REDIS_WRITE_TIMEOUT", Flag: "redis-write-timeout",
			Value: settings.Span(&r.WriteTimeout, 10*time.Millisecond, longest), Help: "longest sending of a command or pipeline"},
		{Name: "redis.pool_timeout", Env: "MILLRACE_REDIS_POOL_TIMEOUT", Flag: "redis-pool-timeout",
			Value: settings.Span(&r.PoolTimeout, 10*time.Millisecond, longest), Help: "longest wait for a free connection"},

		{Name: "temporal.address", Env: EnvTemporalAddress, Flag: "temporal", Value: settings.Text(&t.Address, "host:port", nil),
			Help: "Temporal frontend, host:port", Default: "localhost:7233", Shown: shownAddrs},
		{Name: "temporal.namespace", Env: "TEMPORAL_NAMESPACE", Flag: "namespace", Value: settings.Text(&t.Namespace, "a name", nil),
			Help: "Temporal namespace", Default: "default"},
		{Name: "temporal.tls.enabled", Env: "TEMPORAL_TLS", Flag: "temporal-tls", Value: settings.OnOff(&t.TLS.Enabled),
			Help: "TLS to Temporal; an API key or any other temporal.tls setting implies it"},
		{Name: "temporal.tls.ca", Env: "TEMPORAL_TLS_SERVER_CA_CERT_PATH", Flag: "temporal-ca", Value: settings.Path(&t.TLS.CA, wantPEM),
			Help: "PEM file of the authorities to trust for Temporal, instead of the system's"},
		{Name: "temporal.tls.cert", Env: "TEMPORAL_TLS_CLIENT_CERT_PATH", Flag: "temporal-cert", Value: settings.Path(&t.TLS.Cert, wantPEM),
			Help: "PEM file of the certificate to show Temporal"},
		{Name: "temporal.tls.key", Env: "TEMPORAL_TLS_CLIENT_KEY_PATH", Flag: "temporal-key", Value: settings.Path(&t.TLS.Key, wantPEM),
			Help: "PEM file of that certificate's key"},
		{Name: "temporal.tls.server_name", Env: "TEMPORAL_TLS_SERVER_NAME", Flag: "temporal-server-name",
			Value: settings.Text(&t.TLS.ServerName, "a host name", nil),
			Help:  "name to expect in the frontend's certificate, instead of its host's"},
		{Name: "temporal.api_key", Env: "TEMPORAL_API_KEY", Secret: true, Value: settings.Secret(&t.APIKey), Help: "API key; implies TLS"},
		{Name: "temporal.api_key_file", Env: "MILLRACE_TEMPORAL_API_KEY_FILE", Flag: "temporal-api-key-file",
			Value: settings.Path(&t.APIKeyFile, wantSecret), Help: "file that holds the API key; it is read anew when it has changed"},
		{Name: "temporal.codec.keys", Env: "MILLRACE_CODEC_KEYS", Flag: "codec-keys",
			Value: settings.List(&t.Codec.Keys, "ID=FILE, several with commas between them"), Shown: shownKeys,
			Help: "keys that encrypt payloads, ID=FILE,...: the first encrypts, all decrypt"},
		{Name: "temporal.codec.key_dir", Env: "MILLRACE_CODEC_KEY_DIR", Flag: "codec-key-dir",
			Value: settings.Path(&t.Codec.Dir, "a directory"),
			Help:  "directory of such keys, named by their ids: the last by name encrypts, all decrypt"},
	}
}

func redisModes() (names []string) {
	for _, m := range store.Modes {
		names = append(names, string(m))
	}
	return names
}
