package source

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"millrace/pipeline/credential"
)

const (
	mechanismPlain    = "PLAIN"
	mechanismSCRAM256 = "SCRAM-SHA-256"
	mechanismSCRAM512 = "SCRAM-SHA-512"
	mechanismBearer   = "OAUTHBEARER"
)

// Mechanisms are the ways to log in to Kafka.
var Mechanisms = []string{mechanismPlain, mechanismSCRAM256, mechanismSCRAM512, mechanismBearer}

func (s SASL) validate() error {
	login := s.User != "" || s.Password.Given()
	switch {
	case s.Mechanism == "" && (login || s.Tokens != nil):
		return fmt.Errorf("user, password or token given without a mechanism; want one of %s", strings.Join(Mechanisms, ", "))
	case s.Mechanism == "":
	case !slices.Contains(Mechanisms, s.Mechanism):
		return fmt.Errorf("mechanism %q is unknown; want one of %s", s.Mechanism, strings.Join(Mechanisms, ", "))
	case s.Mechanism == mechanismBearer && login:
		return errors.New("OAUTHBEARER takes a token, and user or password are given; leave them out")
	case s.Mechanism == mechanismBearer && s.Tokens == nil:
		return errors.New("OAUTHBEARER needs a token, from a file or from a command")
	case s.Mechanism != mechanismBearer && s.Tokens != nil:
		return fmt.Errorf("%s takes user and password, and a token is given; want OAUTHBEARER, or no token", s.Mechanism)
	case s.Mechanism != mechanismBearer && (s.User == "" || !s.Password.Given()):
		return fmt.Errorf("%s needs user and password", s.Mechanism)
	}
	return nil
}

// apply has c log in. The error says that a file cannot be read.
func (s SASL) apply(c *sarama.Config) error {
	if s.Mechanism == "" {
		return nil
	}
	c.Net.SASL.Enable = true
	c.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
	if s.Mechanism == mechanismBearer {
		c.Net.SASL.TokenProvider = tokens{s.Tokens}
		return nil
	}
	password, err := s.Password.Get()
	if err != nil {
		return fmt.Errorf("kafka sasl: password: %w", err)
	}
	// sarama keeps this password for PLAIN as long as the client lives; SCRAM asks for it at every login.
	c.Net.SASL.User, c.Net.SASL.Password = s.User, password
	switch s.Mechanism {
	case mechanismSCRAM256:
		c.Net.SASL.SCRAMClientGeneratorFunc = s.scram(sha256.New)
	case mechanismSCRAM512:
		c.Net.SASL.SCRAMClientGeneratorFunc = s.scram(sha512.New)
	}
	return nil
}

func (s SASL) scram(hash scram.HashGeneratorFcn) func() sarama.SCRAMClient {
	return func() sarama.SCRAMClient { return &scramClient{hash: hash, password: s.Password} }
}

// scramClient is one SCRAM exchange.
type scramClient struct {
	hash         scram.HashGeneratorFcn
	password     credential.Secret
	conversation *scram.ClientConversation
}

// Begin implements sarama.SCRAMClient, with the password of now instead of the one that sarama remembers.
func (s *scramClient) Begin(user, _, authz string) error {
	password, err := s.password.Get()
	if err != nil {
		return err
	}
	client, err := s.hash.NewClient(user, password, authz)
	if err != nil {
		return err
	}
	s.conversation = client.NewConversation()
	return nil
}

func (s *scramClient) Step(challenge string) (string, error) { return s.conversation.Step(challenge) }

func (s *scramClient) Done() bool { return s.conversation.Done() }

// errNoToken is found, as text, in the errors of logins for which there was no token.
var errNoToken = errors.New("no token to log in with")

// tokens are what sarama asks for a token at every login.
type tokens struct{ from *credential.Tokens }

// Token implements sarama.AccessTokenProvider. sarama knows no context; the tokens bound their time themselves.
func (t tokens) Token() (*sarama.AccessToken, error) {
	token, err := t.from.Token(context.Background())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoToken, err)
	}
	return &sarama.AccessToken{Token: token}, nil
}

// Login is why a broker did not let a client in.
type Login int

// The reasons. LoginNone: it was not about the login.
const (
	LoginNone      Login = iota
	LoginWrong           // the password or the token
	LoginMechanism       // the listener has other mechanisms
	LoginUnwanted        // the listener has no login at all
	LoginNoToken         // there is no token to show
)

// LoginRefusal says why err refuses the login. It goes by the text: of the errors of several brokers there is no more.
func LoginRefusal(err error) Login {
	for why, code := range map[Login]error{
		LoginWrong: sarama.ErrSASLAuthenticationFailed, LoginMechanism: sarama.ErrUnsupportedSASLMechanism,
		LoginUnwanted: sarama.ErrIllegalSASLState, LoginNoToken: errNoToken,
	} {
		if strings.Contains(err.Error(), code.Error()) {
			return why
		}
	}
	return LoginNone
}
