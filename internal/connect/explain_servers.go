package connect

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc/codes"

	"millrace/pipeline/credential"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// ExplainKafka adds to the error of a connection that could not be used what is wrong with the login or with TLS, and which setting
// mends it. Any other error is returned as it is. It takes a few seconds of ctx at most, and does nothing when ctx has ended.
func ExplainKafka(ctx context.Context, cfg source.Config, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	text := explainSASL(cfg.SASL, err)
	if text == "" {
		text = Kafka.explainTLS(ctx, securedBy(cfg.Brokers, cfg.TLS), err)
	}
	switch {
	case text != "" || !hungUp(err):
	case cfg.SASL.Mechanism == "":
		text = "Kafka ends the connection: does it want a login? Set " + Kafka.label("sasl.mechanism")
	default:
		text = "Kafka ends the connection at the login: " + wrongLogin(cfg.SASL)
	}
	return explained(text, err)
}

func explainSASL(login source.SASL, err error) string {
	switch source.LoginRefusal(err) {
	case source.LoginWrong:
		return "Kafka refuses the login: " + wrongLogin(login)
	case source.LoginNoToken:
		return fmt.Sprintf("there is no token for Kafka: look at what %s or %s names", Kafka.label("sasl.token_file"),
			Kafka.label("sasl.token_command"))
	case source.LoginMechanism:
		return fmt.Sprintf("Kafka does not take logins with %s: set another %s", login.Mechanism, Kafka.label("sasl.mechanism"))
	case source.LoginUnwanted:
		return "Kafka takes no login at this address: use the address of the listener that does, or unset " + Kafka.label("sasl.mechanism")
	case source.LoginNone:
	}
	return ""
}

// wrongLogin names what may be wrong with a login that was refused.
func wrongLogin(login source.SASL) string {
	if login.Tokens != nil {
		return fmt.Sprintf("is the token still valid, and meant for this cluster? It comes from %s or %s",
			Kafka.label("sasl.token_file"), Kafka.label("sasl.token_command"))
	}
	return fmt.Sprintf("user %q, %s: correct %s, or the password in %s or %s", login.User, login.Mechanism,
		Kafka.label("sasl.user"), Kafka.label("sasl.password"), Kafka.label("sasl.password_file"))
}

// ExplainRedis is ExplainKafka for Redis, and says when the servers are of another kind than redis.mode says.
func ExplainRedis(ctx context.Context, cfg store.Config, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	text := explainRedisMode(cfg, err)
	if text == "" {
		text = explainRedisLogin(cfg, err)
	}
	if text == "" {
		text = Redis.explainTLS(ctx, securedBy(cfg.Addrs, cfg.TLS), err)
	}
	return explained(text, err)
}

func explainRedisLogin(cfg store.Config, err error) string {
	user := cmp.Or(cfg.Username, "default")
	password := Redis.label("password") + " or " + Redis.label("password_file")
	var refused *store.RefusalError
	switch {
	case errors.As(err, &refused) && refused.Code == "NOAUTH":
		return fmt.Sprintf("Redis wants a login: set %s, and the password in %s", Redis.label("user"), password)
	case errors.As(err, &refused) && refused.Code == "WRONGPASS":
		return fmt.Sprintf("Redis refuses user %q: correct %s, or the password in %s", user, Redis.label("user"), password)
	case errors.As(err, &refused) && refused.Code == "NOPERM":
		return fmt.Sprintf("Redis does not let user %q do what is needed: grant it (docs/security.md has the line), or set another %s",
			user, Redis.label("user"))
	case strings.Contains(err.Error(), "without any password configured"):
		return fmt.Sprintf("Redis has no password: unset that in %s, or give Redis one", password)
	}
	return ""
}

func explainRedisMode(cfg store.Config, err error) string {
	text, mode := err.Error(), Redis.label("mode")
	switch in := cfg.InForce(); {
	case in == store.Sentinel && store.NoSuchMaster(err):
		return fmt.Sprintf("the sentinels know no primary %q: correct %s", cfg.MasterName, Redis.label("sentinel.master"))
	case in == store.Sentinel && strings.Contains(text, "unknown command"):
		return fmt.Sprintf("the servers are no sentinels: set %s to single or cluster, or the sentinels' addresses in %s",
			mode, Redis.label("addrs"))
	case in == store.Sentinel && store.NoSentinel(err) && strings.Contains(text, "NOAUTH"):
		return fmt.Sprintf("the sentinels want a login of their own: set %s, and the password in %s or %s",
			Redis.label("sentinel.user"), Redis.label("sentinel.password"), Redis.label("sentinel.password_file"))
	case in == store.Sentinel && store.NoSentinel(err) && strings.Contains(text, "WRONGPASS"):
		return fmt.Sprintf("the sentinels refuse user %q: correct %s, or the password in %s or %s",
			cmp.Or(cfg.SentinelUsername, "default"), Redis.label("sentinel.user"), Redis.label("sentinel.password"),
			Redis.label("sentinel.password_file"))
	case in == store.Sentinel && store.NoSentinel(err) && strings.Contains(text, "NOPERM"):
		return fmt.Sprintf("the sentinels do not let user %q do what is needed: grant it (docs/security.md has the line), or set another %s",
			cmp.Or(cfg.SentinelUsername, "default"), Redis.label("sentinel.user"))
	case in == store.Cluster && strings.Contains(text, "cluster support disabled"):
		return fmt.Sprintf("the servers are not a Cluster: set %s to single with one address, or to sentinel", mode)
	case in == store.Single && strings.Contains(text, "MOVED "):
		return fmt.Sprintf("the server is a node of a Cluster: set %s to cluster", mode)
	case in == store.Single && strings.Contains(text, "unknown command"):
		return fmt.Sprintf("the server does not know a command that Redis has; if it is a sentinel, set %s and leave %s at auto",
			Redis.label("sentinel.master"), mode)
	}
	return ""
}

// ExplainTemporal is ExplainKafka for Temporal.
func ExplainTemporal(ctx context.Context, opts client.Options, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	switch serviceerror.ToStatus(err).Code() {
	case codes.Unauthenticated, codes.PermissionDenied:
		return explained(fmt.Sprintf("Temporal refuses the login for namespace %q: correct %s or %s, or the certificate in %s",
			opts.Namespace, Temporal.label("api_key"), Temporal.label("api_key_file"), Temporal.label("tls.cert")), err)
	}
	c := secured{addrs: []string{TemporalTarget(opts.HostPort)}}
	if TemporalTLS(opts) {
		c.client = credential.ClientOf(opts.ConnectionOptions.TLS)
		if own := ownOf(opts.ConnectionOptions.TLS); own != nil {
			c.own = own.Leaf
		}
	}
	return explained(Temporal.explainTLS(ctx, c, err), err)
}

// securedBy is how connections to the addresses are made. Files that cannot be read have been reported before anything was connected.
func securedBy(addrs []string, t credential.TLS) secured {
	c := secured{addrs: addrs}
	if secure, err := t.Client(); err == nil {
		c.client = secure
	}
	var own *x509.Certificate
	if own = c.client.Own(); own != nil {
		c.own = own
	}
	return c
}
