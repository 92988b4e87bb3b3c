package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"millrace/pipeline/credential/credentialtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// explainLimit is how long it may take from the first try to the line that says what is wrong.
const explainLimit = 10 * time.Second

const password = "hunter2"

// A login is one way to connect, by what is put over settings that work.
type login struct {
	name string
	env  map[string]string
	says string // "": it works
}

// certificates are files for a server that wants clients to have a certificate, and such clients.
type certificates struct {
	ca, foreign           *credentialtest.Authority
	cert, key             string
	expired, expiredKey   string
	stranger, strangerKey string
}

func newCertificates(t *testing.T) *certificates {
	c := &certificates{ca: credentialtest.New(t, "ours"), foreign: credentialtest.New(t, "foreign")}
	dir := t.TempDir()
	c.cert, c.key = c.ca.Issue(dir, "client")
	c.expired, c.expiredKey = c.ca.Issue(dir, "expired", credentialtest.Expired)
	c.stranger, c.strangerKey = c.foreign.Issue(dir, "stranger")
	return c
}

// server is what a server wants: TLS, and a certificate if mutual is set.
func (c *certificates) server(mutual bool, changes ...credentialtest.Change) *tls.Config {
	conf := c.ca.Server(changes...)
	if mutual {
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, c.ca.Pool
	}
	return conf
}

// logins are those of TLS, which are the same for every server; group is MILLRACE_KAFKA or MILLRACE_REDIS.
func (c *certificates) logins(server, group string, mutual, expired, misnamed string, addrs string) []login {
	lower := strings.ToLower(server)
	own := map[string]string{group + "_CA": c.ca.File, group + "_CERT": c.cert, group + "_KEY": c.key, addrs: mutual}
	with := func(changes map[string]string) map[string]string {
		env := map[string]string{}
		for _, values := range []map[string]string{own, changes} {
			for name, value := range values {
				env[name] = value
			}
		}
		return env
	}
	return []login{
		{"mutual TLS", own, ""},
		{"no TLS", with(map[string]string{group + "_CA": "", group + "_CERT": "", group + "_KEY": ""}),
			"answers with TLS, and this program does not: is TLS on? Set " + lower + ".tls.enabled (" + group + "_TLS)=true"},
		{"wrong CA", with(map[string]string{group + "_CA": c.foreign.File}),
			"the certificate of " + server + " is signed by an authority that is not trusted: name its file in " + lower + ".tls.ca"},
		{"no client certificate", with(map[string]string{group + "_CERT": "", group + "_KEY": ""}),
			server + " wants a certificate of this program: name its files in " + lower + ".tls.cert"},
		{"client certificate of a stranger", with(map[string]string{group + "_CERT": c.stranger, group + "_KEY": c.strangerKey}),
			server + ` refuses the certificate of this program, "CN=stranger": is it signed by an authority that the server trusts?`},
		{"expired client certificate", with(map[string]string{group + "_CERT": c.expired, group + "_KEY": c.expiredKey}),
			server + " refuses the certificate of this program, for it expired at "},
		{"expired server certificate", with(map[string]string{addrs: expired}), "the certificate of " + server + " has expired or is not valid yet"},
		{"certificate for another name", with(map[string]string{addrs: misnamed}),
			"the certificate of " + server + " is for another name than this address: name what it is for in " + lower + ".tls.server_name"},
		{"certificate for the name that is set", with(map[string]string{addrs: misnamed, group + "_SERVER_NAME": "other.example"}), ""},
	}
}

// try goes through logins; connect returns the explained error of one.
func try(t *testing.T, logins []login, connect func(ctx context.Context, o *Options) error) {
	for _, l := range logins {
		t.Run(l.name, func(t *testing.T) {
			o, err := read(t, l.env, "")
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			began := time.Now()
			err = connect(ctx, o)
			require.Less(t, time.Since(began), explainLimit)
			if l.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, l.says)
			require.NotContains(t, err.Error(), password)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestKafkaLogins(t *testing.T) {
	files := newCertificates(t)
	start := func(opts ...kfake.Opt) string {
		k, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
		require.NoError(t, err)
		t.Cleanup(k.Close)
		return k.ListenAddrs()[0]
	}
	mutual, expired := start(kfake.TLS(files.server(true))), start(kfake.TLS(files.server(false, credentialtest.Expired)))
	misnamed := start(kfake.TLS(files.server(false, credentialtest.For("other.example"))))
	sasl := start(kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "ann", password))
	plain := start()
	with := func(addr string, more ...string) map[string]string {
		env := map[string]string{EnvKafkaBrokers: addr}
		for i := 0; i+1 < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	logins := append(files.logins("Kafka", "MILLRACE_KAFKA", mutual, expired, misnamed, EnvKafkaBrokers),
		login{"SCRAM", with(sasl, "MILLRACE_KAFKA_SASL", "SCRAM-SHA-256", "MILLRACE_KAFKA_USER", "ann", "MILLRACE_KAFKA_PASSWORD", password), ""},
		login{"wrong password", with(sasl, "MILLRACE_KAFKA_SASL", "SCRAM-SHA-256", "MILLRACE_KAFKA_USER", "bob", "MILLRACE_KAFKA_PASSWORD", password),
			`user "bob", SCRAM-SHA-256: correct kafka.sasl.user (MILLRACE_KAFKA_USER), or the password in kafka.sasl.password`},
		login{"no login", with(sasl), "Kafka ends the connection: does it want a login? Set kafka.sasl.mechanism (MILLRACE_KAFKA_SASL)"},
		login{"TLS, server plain", with(plain, "MILLRACE_KAFKA_TLS", "true"), "does not answer with TLS, and this program does"},
		login{"nobody", with("127.0.0.1:1"), "connection refused"},
	)
	try(t, logins, func(ctx context.Context, o *Options) error {
		cfg, err := o.KafkaConfig()
		if err != nil {
			return err
		}
		cluster, err := source.NewCluster(ctx, cfg)
		if err == nil {
			defer cluster.Close()
			_, err = cluster.Topics(ctx)
		}
		return ExplainKafka(ctx, cfg, err)
	})
}

// TestKafkaRefusals are answers that only a real broker gives.
func TestKafkaRefusals(t *testing.T) {
	bearer, err := read(t, map[string]string{EnvKafkaBrokers: "k:1", "MILLRACE_KAFKA_SASL": "OAUTHBEARER", "MILLRACE_KAFKA_TOKEN_COMMAND": "true"}, "")
	require.NoError(t, err)
	cfg, err := bearer.KafkaConfig()
	require.NoError(t, err)
	for text, says := range map[string]string{
		"kafka server: SASL Authentication failed":                               "Kafka refuses the login: is the token still valid",
		"kafka server: The broker does not support the requested SASL mechanism": "Kafka does not take logins with OAUTHBEARER: set another kafka.sasl.mechanism",
		"kafka server: Request is not valid given the current SASL state":        "Kafka takes no login at this address",
		"token command true prints nothing; want a token":                        "",
	} {
		require.Equal(t, says, cut(explainSASL(cfg.SASL, errors.New(text)), says))
	}
}

// cut shortens a text to what is compared.
func cut(text, to string) string { return text[:min(len(text), len(to))] }

func TestRedisLogins(t *testing.T) {
	files := newCertificates(t)
	start := func(conf *tls.Config) *miniredis.Miniredis {
		r := miniredis.NewMiniRedis()
		if conf == nil {
			require.NoError(t, r.Start())
		} else {
			require.NoError(t, r.StartTLS(conf))
		}
		t.Cleanup(r.Close)
		return r
	}
	mutual, expired := start(files.server(true)), start(files.server(false, credentialtest.Expired))
	misnamed := start(files.server(false, credentialtest.For("other.example")))
	locked, open := start(nil), start(nil)
	locked.RequireUserAuth("ann", password)
	with := func(addr string, more ...string) map[string]string {
		env := map[string]string{EnvRedisAddrs: addr}
		for i := 0; i+1 < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	logins := append(files.logins("Redis", "MILLRACE_REDIS", mutual.Addr(), expired.Addr(), misnamed.Addr(), EnvRedisAddrs),
		login{"ACL user", with(locked.Addr(), "MILLRACE_REDIS_USER", "ann", "MILLRACE_REDIS_PASSWORD", password), ""},
		login{"wrong user", with(locked.Addr(), "MILLRACE_REDIS_USER", "bob", "MILLRACE_REDIS_PASSWORD", password),
			`Redis refuses user "bob": correct redis.user (MILLRACE_REDIS_USER), or the password in redis.password`},
		login{"no login", with(locked.Addr()), "Redis wants a login: set redis.user (MILLRACE_REDIS_USER), and the password in redis.password"},
		login{"another database", with(open.Addr(), "MILLRACE_REDIS_DB", "3"), ""},
		login{"TLS, server plain", with(open.Addr(), "MILLRACE_REDIS_TLS", "true"), "does not answer with TLS, and this program does"},
		login{"nobody", with("127.0.0.1:1"), "connection refused"},
	)
	try(t, logins, func(ctx context.Context, o *Options) error {
		cfg, err := o.RedisConfig()
		if err != nil {
			return err
		}
		c, err := store.NewClient(cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		return ExplainRedis(ctx, cfg, c.Ping(ctx).Err())
	})
}

// TestRedisRefusals are answers that only a real Redis gives.
func TestRedisRefusals(t *testing.T) {
	single := store.Config{Addrs: []string{"r:1"}, Username: "ann"}
	sentinel := store.Config{Addrs: []string{"s:1"}, MasterName: "mymaster"}
	cluster := store.Config{Addrs: []string{"r:1"}, Mode: store.Cluster}
	for _, c := range []struct {
		name string
		cfg  store.Config
		err  error
		says string
	}{
		{"rights", single, &store.RefusalError{Code: "NOPERM", Err: errors.New("NOPERM x")}, `Redis does not let user "ann" do what is needed: grant it`},
		{"no password there", single, errors.New("ERR AUTH <password> called without any password configured for the default user."),
			"Redis has no password: unset that in redis.password"},
		{"unknown primary", sentinel, errors.New("redis: all sentinels specified in configuration are unreachable: redis: nil"),
			`the sentinels know no primary "mymaster": correct redis.sentinel.master`},
		{"no sentinel", sentinel, errors.New("ERR unknown command 'sentinel', with args beginning with:"), "the servers are no sentinels: set redis.mode"},
		{"not a Cluster", cluster, errors.New("ERR This instance has cluster support disabled"), "the servers are not a Cluster: set redis.mode"},
		{"a Cluster", single, errors.New("MOVED 3999 127.0.0.1:6381"), "the server is a node of a Cluster: set redis.mode (MILLRACE_REDIS_MODE) to cluster"},
		{"a sentinel", single, errors.New("ERR unknown command 'set', with args beginning with:"), "if it is a sentinel, set redis.sentinel.master"},
		{"anything else", single, errors.New("ERR x"), "ERR x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Addrs = []string{"127.0.0.1:1"} // nobody is asked about TLS there
			require.ErrorContains(t, ExplainRedis(t.Context(), c.cfg, c.err), c.says)
		})
	}
}

// frontend is a Temporal that lets in who has the key.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	key string
}

func (f *frontend) GetSystemInfo(ctx context.Context, _ *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if f.key != "" && strings.Join(md.Get("authorization"), "") != "Bearer "+f.key {
		return nil, status.Error(codes.PermissionDenied, "Request unauthorized.")
	}
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{}}, nil
}

func startFrontend(t *testing.T, key string, conf *tls.Config) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var opts []grpc.ServerOption
	if conf != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(conf)))
	}
	server := grpc.NewServer(opts...)
	workflowservice.RegisterWorkflowServiceServer(server, &frontend{key: key})
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func TestTemporalLogins(t *testing.T) {
	t.Setenv("TEMPORAL_CONFIG_FILE", t.TempDir()+"/none.toml")
	files := newCertificates(t)
	const group = "TEMPORAL"
	mutual, expired := startFrontend(t, "", files.server(true)), startFrontend(t, "", files.server(false, credentialtest.Expired))
	misnamed := startFrontend(t, "", files.server(false, credentialtest.For("other.example")))
	keyed := startFrontend(t, password, files.server(false))
	plain := startFrontend(t, "", nil)
	logins := files.logins("Temporal", group, mutual, expired, misnamed, EnvTemporalAddress)
	names := map[string]string{group + "_CA": "TEMPORAL_TLS_SERVER_CA_CERT_PATH", group + "_CERT": "TEMPORAL_TLS_CLIENT_CERT_PATH",
		group + "_KEY": "TEMPORAL_TLS_CLIENT_KEY_PATH", group + "_SERVER_NAME": "TEMPORAL_TLS_SERVER_NAME"}
	for i := range logins {
		env := map[string]string{}
		for name, value := range logins[i].env {
			if own, ok := names[name]; ok {
				name = own
			}
			env[name] = value
		}
		logins[i].env = env
	}
	ca := files.ca.File
	logins = append(logins,
		login{"API key", map[string]string{EnvTemporalAddress: keyed, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ca, "TEMPORAL_API_KEY": password}, ""},
		login{"wrong API key", map[string]string{EnvTemporalAddress: keyed, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ca, "TEMPORAL_API_KEY": "wrong"},
			`Temporal refuses the login for namespace "default": correct temporal.api_key (TEMPORAL_API_KEY)`},
		login{"no API key", map[string]string{EnvTemporalAddress: keyed, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": ca}, "Temporal refuses the login"},
		login{"TLS, server plain", map[string]string{EnvTemporalAddress: plain, "TEMPORAL_TLS": "true"}, "does not answer with TLS, and this program does"},
		login{"plain", map[string]string{EnvTemporalAddress: plain}, ""},
	)
	try(t, logins, func(ctx context.Context, o *Options) error {
		opts, err := o.TemporalConfig()
		if err != nil {
			return err
		}
		opts.Logger = log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		c, err := client.DialContext(limited, opts)
		if err == nil {
			c.Close()
		}
		return ExplainTemporal(ctx, opts, err)
	})
}
