package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCodecServe(t *testing.T) {
	dir := t.TempDir()
	key, token := filepath.Join(dir, "key"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(key, bytes.Repeat([]byte{7}, 32), 0o600))
	require.NoError(t, os.WriteFile(token, []byte("open sesame\n"), 0o600))
	for _, c := range []struct{ name, args, says string }{
		{"no token", "codec serve", "--token-file is missing: without a token everybody on this machine could decrypt"},
		{"no file of the token", "codec serve --token-file " + dir + "/none", "--token-file: open "},
		{"no keys", "codec serve --token-file " + token, "there are no keys: set temporal.codec.keys"},
		{"no such key", "codec serve --token-file " + token + " --codec-keys a=" + dir + "/none", `key "a": open `},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, errs := millrace(t, strings.Fields(c.args)...)
			require.Equal(t, ExitUsage, code, errs)
			require.Contains(t, errs, c.says)
		})
	}
	for listen, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		var out, errs bytes.Buffer
		code := Main(ctx, []string{"codec", "serve", "--listen", listen, "--token-file", token, "--codec-keys", "a=" + key}, &out, &errs)
		cancel()
		require.Zero(t, code, errs.String())
		require.Contains(t, errs.String(), "decrypting at http://")
		require.Equal(t, warned, strings.Contains(errs.String(), "is open to the network"), listen)
		require.NotContains(t, errs.String(), "sesame")
	}
}
