package secure

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/credential/credentialtest"
)

// authority signs certificates for the servers and clients of a test.
type authority struct {
	*credentialtest.Authority
	t *testing.T
}

// identity is a certificate with its key, in PEM files.
type identity struct {
	cert, key string
	both      string // the key and then the certificate, as Kafka wants them
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	return &authority{credentialtest.New(t, name), t}
}

// issue makes a certificate for a server on loopback or a client that is called so.
func (a *authority) issue(name string, changes ...credentialtest.Change) identity {
	a.t.Helper()
	dir := a.t.TempDir()
	id := identity{both: filepath.Join(dir, "both.pem")}
	id.cert, id.key = a.Issue(dir, name, changes...)
	var parts [2][]byte
	for i, file := range []string{id.key, id.cert} {
		text, err := os.ReadFile(file)
		require.NoError(a.t, err)
		parts[i] = text
	}
	require.NoError(a.t, os.WriteFile(id.both, bytes.Join(parts[:], nil), 0o600))
	return id
}

// issueExpired makes one that was valid until an hour ago.
func (a *authority) issueExpired(name string) identity { return a.issue(name, credentialtest.Expired) }

// serverTLS is what a server written in Go presents; with clients set, it wants a certificate that a signed.
func (a *authority) serverTLS(as identity, clients bool) *tls.Config {
	a.t.Helper()
	pair, err := tls.LoadX509KeyPair(as.cert, as.key)
	require.NoError(a.t, err)
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if clients {
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool
	}
	return conf
}

// clientTLS trusts a and shows these certificates.
func (a *authority) clientTLS(own ...tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: own, RootCAs: a.Pool}
}
