package secure

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// principal is who everybody is that logs in, in whatever way.
const principal = "millrace"

// kafkaLogging has Kafka say when it is up, and of every request which rule allowed it.
const kafkaLogging = `status = error
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = stdout
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
logger.authorizer.name = kafka.authorizer.logger
logger.authorizer.level = trace
`

// broker is an Apache Kafka whose listeners demand logins, and which lets nobody do what no rule allows.
type broker struct {
	t *testing.T

	inside  string // plain; whoever comes this way may do everything: it is the test's own
	tls     string // TLS, and no login
	mutual  string // TLS with a client's certificate
	sasl    string // TLS with PLAIN, SCRAM and OAUTHBEARER
	expired string // TLS with a certificate that has expired

	passwords map[string]string // by mechanism
	signer    *rsa.PrivateKey   // of tokens
	admin     sarama.ClusterAdmin
	*rig.Process
}

// startBroker starts one in a JVM of its own, which ends with the test. Those who log in may do everything when all is set.
func startBroker(t *testing.T, ca *authority, passwords map[string]string, all bool) *broker {
	t.Helper()
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	out, err := exec.Command("../../tools/servers.sh", "kafka-libs").Output()
	require.NoError(t, err)
	libs := strings.TrimSpace(string(out))

	b := &broker{t: t, passwords: passwords}
	b.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	dir := t.TempDir()
	keys := filepath.Join(dir, "jwks.json")
	require.NoError(t, os.WriteFile(keys, b.keySet(), 0o600))
	for _, addr := range []*string{&b.inside, &b.tls, &b.mutual, &b.sasl, &b.expired} {
		*addr = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	}
	file := filepath.Join(dir, "server.properties")
	require.NoError(t, os.WriteFile(file, []byte(b.properties(ca, dir, keys, all)), 0o600))
	logging := filepath.Join(dir, "log4j2.properties")
	require.NoError(t, os.WriteFile(logging, []byte(kafkaLogging), 0o600))
	java := []string{
		"-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://" + keys,
		"-Dlog4j2.configurationFile=" + logging,
		"-cp", libs + "/*",
	}
	id := base64.RawURLEncoding.EncodeToString([]byte("millrace-secure!"))
	format := append(java[:len(java):len(java)], "kafka.tools.StorageTool", "format", "--cluster-id", id, "--config", file)
	said, err := exec.Command("java", format...).CombinedOutput()
	require.NoError(t, err, "%s", said)
	b.Process = rig.Spawn(t, rig.Program{Name: "kafka", Path: "java", Args: append(java, "kafka.Kafka", file)})
	rig.Eventually(t, "Kafka has started", rig.Patience, func() bool {
		require.False(t, b.Ended(), "Kafka has ended:\n%s", b.Tail(20))
		return b.SaidOf("Kafka Server started") > 0
	})
	conf := sarama.NewConfig()
	conf.Version = sarama.V3_6_0_0
	b.admin, err = sarama.NewClusterAdmin([]string{b.inside}, conf)
	require.NoError(t, err)
	t.Cleanup(func() { b.admin.Close() })
	b.addSCRAM()
	return b
}

func (b *broker) properties(ca *authority, dir, keys string, all bool) string {
	server, old := ca.issue("kafka"), ca.issueExpired("kafka-expired")
	supers := "User:ANONYMOUS"
	if all {
		supers += ";User:" + principal
	}
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[1]d
listeners=INSIDE://%[2]s,TLS://%[3]s,MUTUAL://%[4]s,LOGIN://%[5]s,EXPIRED://%[6]s,CONTROLLER://127.0.0.1:%[1]d
advertised.listeners=INSIDE://%[2]s,TLS://%[3]s,MUTUAL://%[4]s,LOGIN://%[5]s,EXPIRED://%[6]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=INSIDE
listener.security.protocol.map=INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,LOGIN:SASL_SSL,EXPIRED:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=%[7]s
ssl.keystore.type=PEM
ssl.keystore.location=%[8]s
ssl.truststore.type=PEM
ssl.truststore.location=%[9]s
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=%[10]s
listener.name.mutual.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[11]s="%[12]s";
listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.login.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url=file://%[13]s
sasl.oauthbearer.expected.audience=kafka
sasl.oauthbearer.jwt.validator.class=org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator
log.dirs=%[14]s
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
`, rig.FreePort(b.t), b.inside, b.tls, b.mutual, b.sasl, b.expired, supers, server.both, ca.File, old.both, principal,
		b.passwords["PLAIN"], keys, filepath.Join(dir, "data"))
}

// addSCRAM gives the principal its passwords for SCRAM.
func (b *broker) addSCRAM() {
	b.t.Helper()
	for name, kind := range map[string]sarama.ScramMechanismType{
		"SCRAM-SHA-256": sarama.SCRAM_MECHANISM_SHA_256, "SCRAM-SHA-512": sarama.SCRAM_MECHANISM_SHA_512,
	} {
		// A request may name a user once.
		results, err := b.admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{
			Name: principal, Mechanism: kind, Iterations: 4096, Salt: []byte(rand.Text()), Password: []byte(b.passwords[name]),
		}})
		require.NoError(b.t, err)
		for _, r := range results {
			require.Equal(b.t, sarama.ErrNoError, r.ErrorCode, "%v", r.ErrorMessage)
		}
	}
}

// keySet is what the broker verifies tokens with.
func (b *broker) keySet() []byte {
	text, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "test",
		"n": base64.RawURLEncoding.EncodeToString(b.signer.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(b.signer.E)).Bytes()),
	}}})
	require.NoError(b.t, err)
	return text
}

// token is one of the principal that the broker accepts until it ends, if the broker's own key signs it.
func token(t *testing.T, signer *rsa.PrivateKey, ends time.Time) string {
	t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "test"}) + "." + part(map[string]any{
		"sub": principal, "aud": "kafka", "iat": time.Now().Add(-time.Hour).Unix(), "exp": ends.Unix(), "scope": "kafka",
	})
	sum := sha256.Sum256([]byte(text))
	signed, err := rsa.SignPKCS1v15(rand.Reader, signer, crypto.SHA256, sum[:])
	require.NoError(t, err)
	return text + "." + base64.RawURLEncoding.EncodeToString(signed)
}

// rule is one line of what the principal may do, in Kafka's own words.
type rule struct {
	kind   string // TOPIC, GROUP, TRANSACTIONAL_ID
	name   string
	prefix bool
	may    string // READ, WRITE, ...
}

func (r rule) String() string {
	if r.prefix {
		return r.kind + " " + r.name + "*: " + r.may
	}
	return r.kind + " " + r.name + ": " + r.may
}

// allow lets the principal do what the rules say.
func (b *broker) allow(rules ...rule) {
	b.t.Helper()
	for _, r := range rules {
		var kind sarama.AclResourceType
		var may sarama.AclOperation
		require.NoError(b.t, kind.UnmarshalText([]byte(strings.ReplaceAll(r.kind, "_", ""))))
		require.NoError(b.t, may.UnmarshalText([]byte(strings.ReplaceAll(r.may, "_", ""))))
		pattern := sarama.AclPatternLiteral
		if r.prefix {
			pattern = sarama.AclPatternPrefixed
		}
		require.NoError(b.t, b.admin.CreateACLs([]*sarama.ResourceAcls{{
			Resource: sarama.Resource{ResourceType: kind, ResourceName: r.name, ResourcePatternType: pattern},
			Acls:     []*sarama.Acl{{Principal: "User:" + principal, Host: "*", Operation: may, PermissionType: sarama.AclPermissionAllow}},
		}}))
	}
}

// audit is what became of the questions whether the principal may do something.
type audit struct {
	used   map[rule]map[string]bool // by what they allowed: the requests
	denied map[string]bool
}

var (
	auditLine = regexp.MustCompile(`Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) from host = \S+ on resource = (\S+) for request = (\w+)`)
	auditRule = regexp.MustCompile(`resourceType=(\w+), resourceName=([^,]+), patternType=(\w+), .*operation=(\w+), permissionType=ALLOW`)
)

// audited reads what Kafka has said of the principal's requests.
func (b *broker) audited() audit {
	a := audit{used: make(map[rule]map[string]bool), denied: make(map[string]bool)}
	for line := range strings.Lines(b.Said()) {
		asked := auditLine.FindStringSubmatch(line)
		if asked == nil || asked[1] != principal {
			continue
		}
		if asked[2] == "Denied" {
			a.denied[asked[3]+" on "+asked[4]+" for "+asked[5]] = true
			continue
		}
		by := auditRule.FindStringSubmatch(line)
		if by == nil {
			continue
		}
		r := rule{kind: by[1], name: by[2], prefix: by[3] == "PREFIXED", may: by[4]}
		if a.used[r] == nil {
			a.used[r] = make(map[string]bool)
		}
		a.used[r][asked[5]] = true
	}
	return a
}
