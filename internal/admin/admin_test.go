package admin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/contract"
	"millrace/pipeline/credential"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		bind string
		want string
	}{
		{"none", Config{}, "", ""},
		{"bare port", Config{Addr: "9464"}, "127.0.0.1:9464", ""},
		{"no host", Config{Addr: ":9464"}, "127.0.0.1:9464", ""},
		{"every interface", Config{Addr: "0.0.0.0:9464"}, "0.0.0.0:9464", ""},
		{"every interface of both kinds", Config{Addr: "[::]:9464"}, "[::]:9464", ""},
		{"a name", Config{Addr: "localhost:0"}, "localhost:0", ""},
		{"no port", Config{Addr: "localhost"}, "", `admin: address is "localhost"; want host:port, or a port for loopback`},
		{"port too big", Config{Addr: ":70000"}, "", "its port must be a number up to 65535"},
		{"half a pair", Config{Addr: "0", CertFile: "c"}, "", `certificate file is "c" and key file ""; TLS wants both`},
		{"CA without TLS", Config{Addr: "0", ClientCAFile: "ca"}, "", `client CA file is "ca" without TLS`},
		{"no address", Config{TokenFile: "t"}, "", "set the address too"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if tt.want != "" {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			if tt.bind != "" {
				host, port, err := tt.cfg.hostPort()
				require.NoError(t, err)
				require.Equal(t, tt.bind, net.JoinHostPort(host, port))
			}
		})
	}
}

const token = "correct-horse-battery"

var silent = slog.New(slog.DiscardHandler)

// answers are those of a process that is ready and healthy.
func answers() Answers {
	return Answers{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "some_metric 1") }),
		Ready:   func() error { return nil },
		Health:  func() Health { return Health{Standing: contract.Standing{Line: "ok", Healthy: true}} },
	}
}

func listen(t *testing.T, cfg Config, a Answers) *Server {
	t.Helper()
	s, err := Listen(cfg, a, silent)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// ask returns the status and body of path.
func ask(t *testing.T, s *Server, secured *tls.Config, path, bearer string) (int, string) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	scheme := "http"
	if secured != nil {
		scheme = "https"
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://127.0.0.1:"+port+path, nil)
	require.NoError(t, err)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true, TLSClientConfig: secured}).RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

func TestAnswers(t *testing.T) {
	var notReady error
	health := Health{Standing: contract.Standing{Line: "ok", Healthy: true}}
	a := answers()
	a.Ready, a.Health = func() error { return notReady }, func() Health { return health }
	s := listen(t, Config{Addr: "0"}, a)
	require.Regexp(t, `^127\.0\.0\.1:`, s.Addr())
	for path, want := range map[string]string{"/metrics": "some_metric 1", "/healthz": "ok", "/readyz": "ready", "/health": `"line": "ok"`,
		"/debug/pprof/": "goroutine", "/debug/pprof/heap": "", "/debug/pprof/cmdline": "admin.test"} {
		code, text := ask(t, s, nil, path, "")
		require.Equal(t, 200, code, path)
		require.Contains(t, text, want)
	}
	notReady = errors.New("Temporal is away")
	code, text := ask(t, s, nil, "/readyz", "")
	require.Equal(t, 503, code)
	require.Contains(t, text, "Temporal is away")
	health = Health{Standing: contract.Standing{Line: "p: stalled"}, Pipelines: map[string]contract.Standing{"p": {Line: "stalled"}}}
	code, text = ask(t, s, nil, "/health", "")
	require.Equal(t, 503, code)
	require.Contains(t, text, `"line": "p: stalled"`)
}

func TestWhoMayAsk(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "token"), token+"\n")
	ca := newAuthority(t)
	cert, key := ca.issue(t, dir, "server")
	root := write(t, filepath.Join(dir, "ca.pem"), ca.pem)
	clientCert, clientKey := ca.issue(t, dir, "client")
	stranger, strangerKey := newAuthority(t).issue(t, dir, "stranger")
	with := func(cert, key string) *tls.Config {
		c := &tls.Config{RootCAs: ca.pool()}
		if cert != "" {
			pair, err := tls.LoadX509KeyPair(cert, key)
			require.NoError(t, err)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return c
	}
	plain := Config{Addr: "0", TokenFile: file}
	secure := Config{Addr: "0", CertFile: cert, KeyFile: key, TokenFile: file}
	mutual := Config{Addr: "0.0.0.0:0", CertFile: cert, KeyFile: key, ClientCAFile: root}
	open := Config{Addr: "0.0.0.0:0"}
	tests := []struct {
		name    string
		cfg     Config
		client  *tls.Config
		path    string
		bearer  string
		code    int
		content string
	}{
		{"no token", plain, nil, "/metrics", "", 401, "Authorization: Bearer TOKEN"},
		{"wrong token", plain, nil, "/metrics", "correct-horse-batterz", 401, "Authorization"},
		{"token that begins like it", plain, nil, "/metrics", "correct-horse", 401, "Authorization"},
		{"token", plain, nil, "/metrics", token, 200, "some_metric"},
		{"health without a token", plain, nil, "/health", "", 401, ""},
		{"profile without a token", plain, nil, "/debug/pprof/heap", "", 401, ""},
		{"profile with it", plain, nil, "/debug/pprof/heap", token, 200, ""},
		{"probe without a token", plain, nil, "/readyz", "", 200, "ready"},
		{"life without a token", plain, nil, "/healthz", "", 200, "ok"},
		{"TLS without a token", secure, with("", ""), "/metrics", "", 401, ""},
		{"TLS with it", secure, with("", ""), "/metrics", token, 200, "some_metric"},
		{"no client certificate", mutual, with("", ""), "/metrics", "", 401, "client certificate"},
		{"client certificate", mutual, with(clientCert, clientKey), "/metrics", "", 200, "some_metric"},
		{"profile by client certificate", mutual, with(clientCert, clientKey), "/debug/pprof/heap", "", 200, ""},
		{"probe without a client certificate", mutual, with("", ""), "/readyz", "", 200, "ready"},
		{"metrics to a network", open, nil, "/metrics", "", 200, "some_metric"},
		{"profiles to a network", open, nil, "/debug/pprof/heap", "", 403, "set a token file (admin.token_file)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := listen(t, tt.cfg, answers())
			code, text := ask(t, s, tt.client, tt.path, tt.bearer)
			require.Equal(t, tt.code, code, text)
			require.Contains(t, text, tt.content)
		})
	}
	t.Run("certificate of a stranger", func(t *testing.T) {
		s := listen(t, mutual, answers())
		c, err := tls.Dial("tcp", strings.Replace(s.Addr(), "[::]", "127.0.0.1", 1), with(stranger, strangerKey))
		if err == nil { // in TLS 1.3 the server's refusal comes with the first read
			_, err = c.Read(make([]byte, 1))
			require.NoError(t, c.Close())
		}
		require.ErrorContains(t, err, "certificate")
	})
}

// TestNoPathAround: however a path is written, and whichever the method, what is behind it wants the token.
func TestNoPathAround(t *testing.T) {
	s := listen(t, Config{Addr: "0", TokenFile: write(t, filepath.Join(t.TempDir(), "token"), token)}, answers())
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "get"} {
		for _, path := range []string{"/metrics", "//metrics", "/%6detrics", "/./metrics", "/healthz/../metrics", "/healthz/..%2fmetrics",
			"/debug/pprof/../../metrics", "/debug/pprof", "/debug/pprof/", "/debug//pprof/cmdline", "/debug/pprof/%2e%2e/%2e%2e/health", "/health",
			"/healthz/", "/metrics/", "/METRICS", "/metrics?token=" + token, "/metrics#" + token, "http://admin/metrics"} {
			conn, err := net.Dial("tcp", s.Addr())
			require.NoError(t, err)
			_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path)
			require.NoError(t, err)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			conn.Close()
			require.NotContains(t, string(answer), " 200 ", "%s %s", method, path)
			for _, text := range []string{"some_metric", "goroutine", "admin.test", `"line"`} {
				require.NotContains(t, string(answer), text, "%s %s", method, path)
			}
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	cert, key := ca.issue(t, dir, "server")
	file := write(t, filepath.Join(dir, "token"), token)
	var log bytes.Buffer
	cfg := Config{Addr: "0", CertFile: cert, KeyFile: key, TokenFile: file}
	s, err := Listen(cfg, answers(), slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	defer s.Close(context.Background())
	client := &tls.Config{RootCAs: ca.pool()}
	shown := func() *big.Int {
		c, err := tls.Dial("tcp", s.Addr(), client)
		require.NoError(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	first := shown()
	require.Equal(t, first, shown())
	whole, err := os.ReadFile(cert)
	require.NoError(t, err)

	write(t, cert, "half of a rotation")
	require.Equal(t, first, shown(), "what was good stays in force")
	require.Equal(t, first, shown())
	require.Equal(t, 1, strings.Count(log.String(), "cannot be read again"), "once: %s", log.String())
	write(t, cert, string(whole))
	probed := cfg
	probed.Addr = s.Addr()
	require.NoError(t, Probe(t.Context(), probed))

	ca.issue(t, dir, "server")
	require.NotEqual(t, first, shown(), "the certificate is the new one")
	require.NoError(t, Probe(t.Context(), probed))

	write(t, file, "another-horse-battery")
	code, _ := ask(t, s, client, "/metrics", token)
	require.Equal(t, 401, code)
	code, _ = ask(t, s, client, "/metrics", "another-horse-battery")
	require.Equal(t, 200, code)
	require.NoError(t, os.Remove(file))
	code, _ = ask(t, s, client, "/metrics", "another-horse-battery")
	require.Equal(t, 200, code, "what was good stays in force")
	require.NotContains(t, log.String(), "horse")
}

func TestFilesAreWantedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	cert, key := newAuthority(t).issue(t, dir, "server")
	text := write(t, filepath.Join(dir, "text"), "no PEM")
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no token file", Config{TokenFile: filepath.Join(dir, "none")}, "no such file"},
		{"short token", Config{TokenFile: text}, "holds 6 characters; want at least 16"},
		{"two words", Config{TokenFile: write(t, filepath.Join(dir, "two"), "two words of a token")}, "want one word"},
		{"certificate that is none", Config{CertFile: text, KeyFile: key}, "text with key file "},
		{"CA that is none", Config{CertFile: cert, KeyFile: key, ClientCAFile: text}, "holds no PEM certificate"},
		{"too long", Config{TokenFile: write(t, filepath.Join(dir, "long"), strings.Repeat("x", credential.MaxSecretBytes+1))}, "more than 65536 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Addr = "0"
			_, err := Listen(tt.cfg, answers(), silent)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestProfilesAreBounded(t *testing.T) {
	s := listen(t, Config{Addr: "0"}, answers())
	for _, seconds := range []string{"301", "-1", "NaN", "x"} {
		code, text := ask(t, s, nil, "/debug/pprof/profile?seconds="+seconds, "")
		require.Equal(t, 400, code)
		require.Contains(t, text, "want a number up to 300")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, maxProfiles)
	for _, kind := range []string{"profile", "trace"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr()+"/debug/pprof/"+kind+"?seconds=60", nil)
		require.NoError(t, err)
		go func() {
			defer func() { ended <- struct{}{} }()
			answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		}()
	}
	require.Eventually(t, func() bool {
		code, _ := ask(t, s, nil, "/debug/pprof/cmdline", "")
		return code == http.StatusTooManyRequests
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	<-ended
	<-ended
	require.Eventually(t, func() bool {
		code, _ := ask(t, s, nil, "/debug/pprof/cmdline", "")
		return code == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond, "whoever goes away makes room")
}

func TestHeadersAreBounded(t *testing.T) {
	s := listen(t, Config{Addr: "0"}, answers())
	send := func(length int) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/metrics", nil)
		require.NoError(t, err)
		r.Header.Set("X-Long", strings.Repeat("x", length))
		answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
	code, err := send(maxHeader / 2)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	code, err = send(4 * maxHeader)
	if err == nil { // the server resets a connection on which more is under way, and the client may see only that
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, code)
	}
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	cert, key := newAuthority(t).issue(t, dir, "server")
	other, otherKey := newAuthority(t).issue(t, dir, "other")
	file := write(t, filepath.Join(dir, "token"), token)
	root := write(t, filepath.Join(dir, "ca.pem"), newAuthority(t).pem)
	for name, cfg := range map[string]Config{
		"plain": {}, "token": {TokenFile: file}, "TLS": {CertFile: cert, KeyFile: key, TokenFile: file},
		"client CA": {CertFile: cert, KeyFile: key, ClientCAFile: root},
	} {
		for _, host := range []string{"", "0.0.0.0"} {
			t.Run(name+" at "+host, func(t *testing.T) {
				var notReady error
				a := answers()
				a.Ready = func() error { return notReady }
				at := cfg
				at.Addr = host + ":0"
				s := listen(t, at, a)
				_, port, err := net.SplitHostPort(s.Addr())
				require.NoError(t, err)
				at.Addr = host + ":" + port
				require.NoError(t, Probe(t.Context(), at))
				notReady = errors.New("starting")
				require.EqualError(t, Probe(t.Context(), at), "the worker is not ready: starting")
				if cfg.CertFile != "" {
					at.CertFile, at.KeyFile = other, otherKey
					require.ErrorContains(t, Probe(t.Context(), at), "it shows another certificate than "+other)
				}
			})
		}
	}
}

// authority signs certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	require.NoError(t, err)
	return n
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue writes a certificate and its key into dir.
func (a *authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile = write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return certFile, keyFile
}
