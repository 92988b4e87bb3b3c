package credential

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/credential/credentialtest"
)

// replace writes a file anew in one step.
func replace(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".part", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".part", path))
}

func TestFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := NewFile(path, 8)
	_, err := f.Read()
	require.ErrorContains(t, err, "no such file")
	replace(t, path, "123456789")
	_, err = f.Read()
	require.ErrorContains(t, err, "has more than 8 bytes, the limit for such a file")
	replace(t, path, "")
	_, err = f.Read()
	require.ErrorContains(t, err, "is empty")

	replace(t, path, "one")
	first, err := f.Read()
	require.NoError(t, err)
	again, err := f.Read()
	require.NoError(t, err)
	require.Same(t, &first[0], &again[0], "nothing has changed")
	replace(t, path, "two")
	second, err := f.Read()
	require.NoError(t, err)
	require.Equal(t, "two", string(second))
	for name, spoil := range map[string]func(){
		"gone": func() { require.NoError(t, os.Remove(path)) }, "empty": func() { replace(t, path, "") },
		"too large": func() { replace(t, path, "123456789") },
	} {
		spoil()
		kept, err := f.Read()
		require.NoError(t, err, name)
		require.Equal(t, "two", string(kept), name)
	}
}

func TestSecretNeverShows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	replace(t, path, "hunter2\n")
	for _, s := range []Secret{Text("hunter2"), InFile(path)} {
		got, err := s.Get()
		require.NoError(t, err)
		require.Equal(t, "hunter2", got)
		holder := struct{ Password, hidden Secret }{s, s}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "holder", holder)
		text, err := json.Marshal(holder)
		require.NoError(t, err)
		shown := fmt.Sprintf("%v %+v %#v %s %q %x", holder, holder, holder, s, s, s) + log.String() + string(text)
		require.NotContains(t, shown, "hunter2")
		require.NotContains(t, shown, fmt.Sprintf("%x", "hunter2"))
	}
	require.False(t, Text("").Given())
	replace(t, path, "\n")
	_, err := InFile(path).Get()
	require.ErrorContains(t, err, "holds nothing but a line break")
}

// greet answers TLS connections with a byte.
func greet(t *testing.T, conf *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "!")
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// greeted connects and waits for the byte.
func greeted(t *testing.T, c *Client, addr string) error {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer raw.Close()
	conn, err := c.Handshake(t.Context(), raw, addr)
	if err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// TestRotation replaces the program's certificate and the authorities it trusts while a client is in use.
func TestRotation(t *testing.T) {
	before, after := credentialtest.New(t, "before"), credentialtest.New(t, "after")
	serve := func(a *credentialtest.Authority) string {
		conf := a.Server()
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool
		return greet(t, conf)
	}
	oldServer, newServer := serve(before), serve(after)
	dir := t.TempDir()
	certFile, keyFile := before.Issue(dir, "client")
	roots := filepath.Join(dir, "roots.pem")
	copyFile := func(from, to string) {
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		replace(t, to, string(text))
	}
	copyFile(before.File, roots)
	c, err := TLS{Enable: true, CAFile: roots, CertFile: certFile, KeyFile: keyFile}.Client()
	require.NoError(t, err)
	require.NoError(t, greeted(t, c, oldServer))
	require.ErrorContains(t, greeted(t, c, newServer), "unknown authority")

	copyFile(after.File, roots)
	require.ErrorContains(t, greeted(t, c, newServer), "remote error: tls", "the certificate is still the old one")
	otherCert, otherKey := after.Issue(t.TempDir(), "client")
	copyFile(otherCert, certFile)
	require.ErrorContains(t, greeted(t, c, newServer), "remote error: tls", "the key is still the old one, so the pair stays")
	copyFile(otherKey, keyFile)
	require.NoError(t, greeted(t, c, newServer))
	replace(t, roots, "half a fi")
	require.NoError(t, greeted(t, c, newServer), "the last good authorities stay")
}

func TestTLSFiles(t *testing.T) {
	ca := credentialtest.New(t, "ca")
	certFile, keyFile := ca.Issue(t.TempDir(), "client")
	for _, c := range []struct {
		name string
		tls  TLS
		says string
	}{
		{"off", TLS{CAFile: "/none"}, ""},
		{"good", TLS{Enable: true, CAFile: ca.File, CertFile: certFile, KeyFile: keyFile}, ""},
		{"no authorities", TLS{Enable: true, CAFile: "/none"}, "CA file: open /none"},
		{"no certificate in it", TLS{Enable: true, CAFile: keyFile}, "holds no PEM certificate"},
		{"half a pair", TLS{Enable: true, CertFile: certFile}, "go together"},
		{"no key", TLS{Enable: true, CertFile: certFile, KeyFile: "/none"}, "key file: open /none"},
		{"not a key", TLS{Enable: true, CertFile: certFile, KeyFile: ca.File}, "certificate file " + certFile + " with key file " + ca.File},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.tls.Client()
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
		})
	}
	secure, err := TLS{Enable: true, CertFile: certFile, KeyFile: keyFile}.Client()
	require.NoError(t, err)
	require.NoError(t, CheckTime(secure.Own(), time.Now()))
	require.ErrorContains(t, CheckTime(secure.Own(), time.Now().Add(2*time.Hour)), "it expired at ")
	require.ErrorContains(t, CheckTime(secure.Own(), time.Now().Add(-2*time.Hour)), "it is not valid before ")
}

// jwt is a token that ends at a time, signed by nobody.
func jwt(ends time.Time) string {
	body := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":"x","exp":%d}`, ends.Unix()))
	return "e30." + body + ".c2ln"
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	tokens := TokenFile(path)
	require.ErrorContains(t, tokens.Check(), "token file: open ")
	replace(t, path, "opaque\n")
	got, err := tokens.Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, "opaque", got)
	good, ended := jwt(time.Now().Add(time.Hour)), jwt(time.Now().Add(-time.Hour))
	replace(t, path, good)
	got, err = tokens.Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, good, got)
	replace(t, path, ended)
	_, err = tokens.Token(t.Context())
	require.ErrorContains(t, err, "the token in "+path+" ended at ")
	require.NotContains(t, err.Error(), ended)
}

// counting returns a command that prints a token and notes every run in a file.
func counting(t *testing.T, token string) (command []string, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	replace(t, filepath.Join(dir, "token"), token)
	script := "echo x >> " + dir + "/runs; cat " + dir + "/token"
	return []string{"sh", "-c", script}, func() int {
		text, err := os.ReadFile(filepath.Join(dir, "runs"))
		require.NoError(t, err)
		return strings.Count(string(text), "x")
	}
}

func TestTokenCommand(t *testing.T) {
	now := time.Now()
	token := jwt(now.Add(10 * time.Minute))
	command, runs := counting(t, token)
	tokens := TokenCommand(command)
	tokens.now = func() time.Time { return now }
	require.NoError(t, tokens.Check())
	for _, c := range []struct {
		after time.Duration
		runs  int
	}{{0, 1}, {time.Minute, 1}, {9 * time.Minute, 1}, {9*time.Minute + 31*time.Second, 2}} {
		tokens.now = func() time.Time { return now.Add(c.after) }
		got, err := tokens.Token(t.Context())
		require.NoError(t, err)
		require.Equal(t, token, got)
		require.Equal(t, c.runs, runs(), "after %s", c.after)
	}

	command, runs = counting(t, "opaque")
	tokens = TokenCommand(command)
	for after, want := range []int{1, 1, 2} {
		tokens.now = func() time.Time { return now.Add(time.Duration(after) * 6 * time.Second) }
		_, err := tokens.Token(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, runs())
	}
}

func TestTokenCommandThatFails(t *testing.T) {
	ended := jwt(time.Now().Add(-time.Hour))
	for _, c := range []struct{ name, script, says string }{
		{"exit code", "echo hunter2; echo hunter2 >&2; exit 3", "token command sh ended with exit status 3; run it by hand to see why"},
		{"nothing", "true", "token command sh prints nothing"},
		{"too much", "yes hunter2 | head -c 100000", "token command sh prints more than 65536 bytes"},
		{"ended", "echo " + ended, "the token of command sh ended at "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := TokenCommand([]string{"sh", "-c", c.script}).Token(t.Context())
			require.ErrorContains(t, err, c.says)
			for _, secret := range []string{"hunter2", ended} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
	missing := TokenCommand([]string{"no-such-program-anywhere"})
	require.ErrorContains(t, missing.Check(), "executable file not found")
	_, err := missing.Token(t.Context())
	require.ErrorContains(t, err, "token command no-such-program-anywhere: ")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = TokenCommand([]string{"sleep", "60"}).Token(ctx)
	require.ErrorContains(t, err, "token command sleep has not ended within 5s")
}

func TestTokenEnd(t *testing.T) {
	for token, ok := range map[string]bool{
		jwt(time.Unix(1e9, 0)): true, "opaque": false, "a.b.c": false, "..": false, "e30.e30.": false, "e30.eyJleHAiOiJ4In0.": false,
		"e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e300}`)) + ".": false,
	} {
		ends, found := tokenEnd(token)
		require.Equal(t, ok, found, token)
		if ok {
			require.Equal(t, time.Unix(1e9, 0), ends)
		}
	}
}
