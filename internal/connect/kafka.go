package connect

import (
	"fmt"

	"millrace/pipeline/credential"
	"millrace/pipeline/source"
)

// KafkaConfig says how to reach Kafka.
func (o *Options) KafkaConfig() (source.Config, error) {
	k := &o.Kafka
	if len(k.Addrs) == 0 {
		return source.Config{}, Kafka.missing()
	}
	if err := Kafka.check(k.Addrs); err != nil {
		return source.Config{}, err
	}
	secure, err := k.TLS.secure(Kafka)
	if err != nil {
		return source.Config{}, err
	}
	tokens, err := k.tokens()
	if err != nil {
		return source.Config{}, err
	}
	cfg := source.Config{
		Brokers: k.Addrs,
		TLS:     secure,
		SASL: source.SASL{
			Mechanism: k.Mechanism, User: k.User, Password: secret(k.Password, k.PasswordFile), Tokens: tokens,
		},
		DialTimeout: k.DialTimeout, RequestTimeout: k.RequestTimeout, SessionTimeout: k.SessionTimeout,
		HeartbeatInterval: k.HeartbeatInterval, RebalanceTimeout: k.RebalanceTimeout,
	}
	return cfg, cfg.Validate()
}

func (k *KafkaOptions) tokens() (*credential.Tokens, error) {
	switch {
	case k.TokenFile != "" && len(k.TokenCommand) > 0:
		return nil, fmt.Errorf("%s and %s are both set; leave one of them out", Kafka.label("sasl.token_file"), Kafka.label("sasl.token_command"))
	case k.TokenFile != "":
		return credential.TokenFile(k.TokenFile), nil
	case len(k.TokenCommand) > 0:
		return credential.TokenCommand(k.TokenCommand), nil
	}
	return nil, nil
}
