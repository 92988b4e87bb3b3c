package connect

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"google.golang.org/grpc"

	"millrace/internal/codec"
	"millrace/internal/settings"
	"millrace/pipeline/credential"
)

// maxMessageBytes bounds what a Temporal server may send in one answer. Servers themselves refuse a payload above 2 MB and send pages
// of histories of 4 MB.
const maxMessageBytes = 32 << 20

// TemporalTarget is the address in what gRPC takes for one: its resolver may stand before it.
func TemporalTarget(hostPort string) string {
	for _, resolver := range []string{"dns:///", "passthrough:///"} {
		hostPort = strings.TrimPrefix(hostPort, resolver)
	}
	return hostPort
}

// TemporalConfig returns the options of a Temporal client: Temporal's own profile file and variables, with what the settings say
// over them.
func (o *Options) TemporalConfig() (client.Options, error) {
	profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{})
	if err != nil {
		return client.Options{}, fmt.Errorf("environment or profile of Temporal: %w", err)
	}
	t := &o.TemporalAt
	profile.Address = cmp.Or(t.Address, profile.Address, client.DefaultHostPort)
	profile.Namespace = cmp.Or(t.Namespace, profile.Namespace, client.DefaultNamespace)
	if err := Temporal.check([]string{TemporalTarget(profile.Address)}); err != nil {
		return client.Options{}, err
	}
	if _, err := t.TLS.secure(Temporal); err != nil {
		return client.Options{}, err
	}
	key := secret(cmp.Or(t.APIKey, profile.APIKey), "")
	if t.APIKey == "" && t.APIKeyFile != "" {
		key = credential.InFile(t.APIKeyFile)
	}
	profile.APIKey = ""
	secure, err := t.TLS.over(&profile, key.Given())
	if err != nil {
		return client.Options{}, err
	}
	opts, err := profile.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		return client.Options{}, fmt.Errorf("environment or profile of Temporal: %w", err)
	}
	if key.Given() {
		if _, err := key.Get(); err != nil {
			return client.Options{}, fmt.Errorf("%s: %w", Temporal.label("api_key_file"), err)
		}
		opts.Credentials = client.NewAPIKeyDynamicCredentials(func(context.Context) (string, error) { return key.Get() })
	}
	opts.ConnectionOptions.MaxPayloadSize = maxMessageBytes
	keys, err := o.CodecKeys()
	if err != nil {
		return client.Options{}, err
	}
	if err := keys.Apply(&opts); err != nil {
		return client.Options{}, err
	}
	if secure != nil {
		if opts.ConnectionOptions.TLS, err = secure.Config(""); err != nil {
			return client.Options{}, fmt.Errorf("temporal tls: %w", err)
		}
		opts.ConnectionOptions.DialOptions = append(opts.ConnectionOptions.DialOptions,
			grpc.WithTransportCredentials(&handshakes{secure}))
	}
	return opts, nil
}

// CodecKeys are the keys that encrypt payloads. There may be none.
func (o *Options) CodecKeys() (*codec.Keys, error) {
	keys, err := codec.Open(codec.Config{Files: o.TemporalAt.Codec.Keys, Dir: o.TemporalAt.Codec.Dir})
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", Temporal.label("codec.keys"), Temporal.label("codec.key_dir"), err)
	}
	return keys, nil
}

// over puts the settings over what a profile says of TLS. It returns what makes the connections when that is for us to do: the
// profile's own way reads files once. Certificates that the profile holds itself are its own business.
func (t *TLSOptions) over(profile *envconfig.ClientConfigProfile, keyed bool) (*credential.Client, error) {
	if profile.TLS == nil && (keyed || *t != TLSOptions{}) {
		profile.TLS = &envconfig.ClientConfigTLS{}
	}
	p := profile.TLS
	if p == nil {
		return nil, nil
	}
	p.ServerCACertPath, p.ServerName = cmp.Or(t.CA, p.ServerCACertPath), cmp.Or(t.ServerName, p.ServerName)
	p.ClientCertPath, p.ClientKeyPath = cmp.Or(t.Cert, p.ClientCertPath), cmp.Or(t.Key, p.ClientKeyPath)
	if t.Enabled != settings.Unset {
		p.Disabled = t.Enabled == settings.Off
	}
	if p.Disabled || len(p.ClientCertData)+len(p.ClientKeyData)+len(p.ServerCACertData) > 0 {
		return nil, nil
	}
	secure, err := credential.TLS{
		Enable: true, CAFile: p.ServerCACertPath, CertFile: p.ClientCertPath, KeyFile: p.ClientKeyPath, ServerName: p.ServerName,
		SkipVerify: p.DisableHostVerification,
	}.Client()
	if err != nil {
		return nil, fmt.Errorf("temporal tls: %w", err)
	}
	profile.TLS = nil
	return secure, nil
}

// TemporalTLS reports whether a client with these options speaks TLS.
func TemporalTLS(opts client.Options) bool {
	return opts.ConnectionOptions.TLS != nil && !opts.ConnectionOptions.TLSDisabled
}

// ownOf is the certificate that a configuration would show a server, nil for none.
func ownOf(conf *tls.Config) *tls.Certificate {
	if conf == nil || conf.GetClientCertificate == nil {
		return nil
	}
	own, err := conf.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		return nil
	}
	return own
}
