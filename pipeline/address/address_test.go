package address

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	for _, good := range []string{"localhost:9092", "10.0.0.1:6379", "[::1]:6379", "redis.example.com:1", "a_b:65535", "[fe80::1%eth0]:6379", "bücher.example:1"} {
		require.NoError(t, Check(good))
	}
	const secret = "hunter2"
	for addr, want := range map[string]string{
		"": "it is empty", "localhost": `"localhost" has no port; want host:port`,
		"localhost:": "it is not host:port with a port",
		":6379":      "it is not host:port with a port", "localhost:0": "a port from 1 to 65535", "localhost:65536": "a port from 1 to 65535",
		"redis://localhost:6379":          "it is a URL; want host:port",
		"redis://u:" + secret + "@h:6379": "it holds a user or a password; want host:port",
		"u:" + secret + "@h:6379":         "it holds a user or a password", secret + "@h:1": "it holds a user or a password",
		"h:6379:" + secret: "it is not host:port", "h:" + secret: "it is not host:port with", "redis://h:1?password=" + secret: "it is a URL",
		secret + " h:1": "characters that no host has", "h/" + secret + ":1": "characters that no host has",
		"password=" + secret + ":1": "characters that no host has", "h:1 " + secret: "it is not host:port", "h:1,password=" + secret: "it is not host:port",
	} {
		err := Check(addr)
		require.ErrorContains(t, err, want, addr)
		require.NotContains(t, err.Error(), secret)
	}
}

// serve answers every connection with what handle does.
func serve(t *testing.T, l net.Listener, handle func(net.Conn)) string {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func TestProbe(t *testing.T) {
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	secured := func(c *tls.Config) net.Listener {
		c.Certificates = https.TLS.Certificates
		return tls.NewListener(listen(t), c)
	}
	wantsClient := &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	read := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for name, c := range map[string]struct {
		addr string
		want Speech
	}{
		"TLS":                          {serve(t, secured(&tls.Config{}), read), TLS},
		"TLS that wants a certificate": {serve(t, secured(wantsClient), read), TLS},
		"TLS of another age":           {serve(t, secured(&tls.Config{MaxVersion: tls.VersionTLS10}), read), TLS},
		"plain, answers":               {serve(t, listen(t), func(c net.Conn) { _, _ = io.WriteString(c, "-ERR unknown command\r\n") }), Plain},
		"plain, hangs up":              {serve(t, listen(t), func(net.Conn) {}), Plain},
		"plain, silent":                {serve(t, listen(t), read), Plain},
		"nobody":                       {"127.0.0.1:1", Unreachable},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, Probe(t.Context(), c.addr)) })
	}
}
