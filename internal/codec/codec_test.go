package codec

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"millrace/pipeline/credential"
)

const secret = "who pays what"

// writeKey writes a key of 32 equal bytes, as it is.
func writeKey(t *testing.T, dir, name string, b byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{b}, keyBytes), 0o600))
	return path
}

func payload(t *testing.T, value any) *commonpb.Payload {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayload(value)
	require.NoError(t, err)
	return p
}

func TestEncryptAndDecrypt(t *testing.T) {
	dir := t.TempDir()
	keys, err := Open(Config{Files: []string{"new=" + writeKey(t, dir, "n", 1), "old=" + writeKey(t, dir, "o", 2)}})
	require.NoError(t, err)
	plain := payload(t, secret)
	sealed, err := keys.Encode([]*commonpb.Payload{plain, plain})
	require.NoError(t, err)
	for _, p := range sealed {
		require.NotContains(t, p.String(), secret)
		require.Equal(t, "new", string(p.GetMetadata()[keyIDField]), "the first key encrypts")
	}
	require.NotEqual(t, sealed[0].GetData(), sealed[1].GetData(), "every payload has a nonce of its own")
	again, err := keys.Encode(sealed)
	require.NoError(t, err)
	require.Equal(t, sealed, again, "what is encrypted is not encrypted once more")

	old, err := Open(Config{Files: []string{"old=" + filepath.Join(dir, "o")}})
	require.NoError(t, err)
	earlier, err := old.Encode([]*commonpb.Payload{plain})
	require.NoError(t, err)
	got, err := keys.Decode([]*commonpb.Payload{sealed[0], earlier[0], plain})
	require.NoError(t, err)
	for _, p := range got { // with the new key, with the old one, and before there were keys
		require.True(t, converter.GetDefaultDataConverter().ToString(p) == `"`+secret+`"`, p)
	}

	var unknown *UnknownKeyError
	_, err = old.Decode(sealed)
	require.ErrorAs(t, err, &unknown)
	require.ErrorContains(t, err, `encrypted with key "new", which is not among the keys`)
}

func TestDamage(t *testing.T) {
	dir := t.TempDir()
	keys, err := Open(Config{Files: []string{"a=" + writeKey(t, dir, "a", 1), "b=" + writeKey(t, dir, "b", 2)}})
	require.NoError(t, err)
	for name, damage := range map[string]func(*commonpb.Payload){
		"a byte":      func(p *commonpb.Payload) { p.Data[len(p.Data)/2] ^= 1 },
		"cut":         func(p *commonpb.Payload) { p.Data = p.Data[:5] },
		"another key": func(p *commonpb.Payload) { p.Metadata[keyIDField] = []byte("b") },
	} {
		sealed, err := keys.Encode([]*commonpb.Payload{payload(t, secret)})
		require.NoError(t, err)
		damage(sealed[0])
		_, err = keys.Decode(sealed)
		require.ErrorContains(t, err, "damaged", name)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	dir := t.TempDir()
	good := writeKey(t, dir, "good", 1)
	short := filepath.Join(dir, "short")
	require.NoError(t, os.WriteFile(short, []byte("hunter2"), 0o600))
	for _, c := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"no file", Config{Files: []string{"a=" + dir + "/none"}}, `key "a": open `},
		{"no key", Config{Files: []string{"a=" + short}}, `key "a" ` + short + " holds no key; want 32 bytes"},
		{"no id", Config{Files: []string{good}}, "key 1 of 1 is not ID=FILE"},
		{"bad id", Config{Files: []string{"a b=" + good}}, `key id "a b" is not valid`},
		{"twice", Config{Files: []string{"a=" + good, "a=" + good}}, `key "a" is there twice`},
		{"both", Config{Files: []string{"a=" + good}, Dir: dir}, "want one of both"},
		{"empty directory", Config{Dir: t.TempDir()}, "holds no key"},
		{"no directory", Config{Dir: dir + "/none"}, "no such file"},
		{"a file in the directory that is no key", Config{Dir: dir}, "short holds no key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.cfg)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestKeysAsText(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, keyBytes)
	for name, text := range map[string]string{
		"raw": string(raw), "hexadecimal": hex.EncodeToString(raw) + "\n", "base64": base64.StdEncoding.EncodeToString(raw) + "\n",
	} {
		got, err := parseKey([]byte(text))
		require.NoError(t, err, name)
		require.Equal(t, raw, got, name)
	}
}

// TestRotationInADirectory adds a key while two processes run: one begins to encrypt with it, the other finds it when it meets it.
func TestRotationInADirectory(t *testing.T) {
	dir := t.TempDir()
	writeKey(t, dir, "2026-01", 1)
	writeKey(t, dir, ".hidden", 9)
	one, err := Open(Config{Dir: dir})
	require.NoError(t, err)
	two, err := Open(Config{Dir: dir})
	require.NoError(t, err)
	before, err := one.Encode([]*commonpb.Payload{payload(t, secret)})
	require.NoError(t, err)
	writeKey(t, dir, "2026-02", 2)
	one.scanned, two.scanned = one.scanned.Add(-rescan), two.scanned.Add(-rescan) // a second later
	after, err := one.Encode([]*commonpb.Payload{payload(t, secret)})
	require.NoError(t, err)
	require.Equal(t, "2026-02", string(after[0].GetMetadata()[keyIDField]))
	got, err := two.Decode(append(before, after...))
	require.NoError(t, err)
	require.Equal(t, got[0], got[1])
}

// TestLastGoodKeys stay in force while somebody writes a file, and while the directory cannot be read.
func TestLastGoodKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := writeKey(t, dir, "2026-01", 1)
	byDir, err := Open(Config{Dir: dir})
	require.NoError(t, err)
	byFile, err := Open(Config{Files: []string{"2026-01=" + path}})
	require.NoError(t, err)
	encrypts := func(id string) {
		t.Helper()
		byDir.scanned = byDir.scanned.Add(-rescan) // a second later
		for keys, want := range map[*Keys]string{byDir: id, byFile: "2026-01"} {
			sealed, err := keys.Encode([]*commonpb.Payload{payload(t, secret)})
			require.NoError(t, err)
			require.Equal(t, want, string(sealed[0].GetMetadata()[keyIDField]))
			plain, err := byDir.Decode(sealed)
			require.NoError(t, err)
			require.Contains(t, plain[0].String(), secret)
		}
	}
	require.NoError(t, os.WriteFile(path, []byte("hal"), 0o600))
	encrypts("2026-01")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2026-02"), []byte("hal"), 0o600))
	encrypts("2026-01")
	writeKey(t, dir, "2026-02", 2)
	encrypts("2026-02")
	require.NoError(t, os.Rename(dir, dir+"-gone"))
	encrypts("2026-02")
}

func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	keys, err := Open(Config{Files: []string{"a=" + writeKey(t, dir, "a", 1)}})
	require.NoError(t, err)
	const ui = "http://localhost:8233"
	server := httptest.NewServer(&Endpoint{Keys: keys, Origins: []string{ui}, Token: credential.Text("open sesame")})
	defer server.Close()

	// As Temporal's command line asks.
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{
		Endpoint: server.URL, ModifyRequest: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer open sesame")
			return nil
		},
	})
	sealed, err := remote.Encode([]*commonpb.Payload{payload(t, secret)})
	require.NoError(t, err)
	require.NotContains(t, sealed[0].String(), secret)
	plain, err := remote.Decode(sealed)
	require.NoError(t, err)
	require.Equal(t, payload(t, secret).GetData(), plain[0].GetData())

	for _, c := range []struct {
		name, method, path, origin, token, body string
		code                                    int
	}{
		{"no token", http.MethodPost, "/decode", "", "", "{}", http.StatusUnauthorized},
		{"wrong token", http.MethodPost, "/decode", "", "Bearer shut", "{}", http.StatusUnauthorized},
		{"a page", http.MethodPost, "/decode", ui, "Bearer open sesame", "{}", http.StatusOK},
		{"another page", http.MethodPost, "/decode", "http://evil.example", "Bearer open sesame", "{}", http.StatusForbidden},
		{"a browser asks first", http.MethodOptions, "/decode", ui, "", "", http.StatusNoContent},
		{"another browser asks first", http.MethodOptions, "/decode", "http://evil.example", "", "", http.StatusForbidden},
		{"no payloads", http.MethodPost, "/decode", "", "Bearer open sesame", "nonsense", http.StatusBadRequest},
		{"too large", http.MethodPost, "/decode", "", "Bearer open sesame", strings.Repeat(" ", maxBody+1), http.StatusRequestEntityTooLarge},
		{"another path", http.MethodPost, "/", "", "Bearer open sesame", "{}", http.StatusNotFound},
		{"another method", http.MethodGet, "/decode", "", "Bearer open sesame", "", http.StatusMethodNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(context.Background(), c.method, server.URL+c.path, strings.NewReader(c.body))
			require.NoError(t, err)
			request.Header.Set("Origin", c.origin)
			if c.origin == "" {
				request.Header.Del("Origin")
			}
			request.Header.Set("Authorization", c.token)
			answer, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			answer.Body.Close()
			require.Equal(t, c.code, answer.StatusCode)
			if c.origin == ui {
				require.Equal(t, ui, answer.Header.Get("Access-Control-Allow-Origin"))
			}
		})
	}
}
