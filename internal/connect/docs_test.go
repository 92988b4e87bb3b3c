package connect

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of settings in docs/security.md anew")

const securityFile = "../../docs/security.md"

func TestSettingsAreDocumented(t *testing.T) {
	const begin, end = "<!-- settings -->\n", "<!-- /settings -->"
	text, err := os.ReadFile(securityFile)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := before + begin + New().Settings().Markdown() + end + after
	if *update {
		require.NoError(t, os.WriteFile(securityFile, []byte(want), 0o644))
		text = []byte(want)
	}
	require.Equal(t, want, string(text), "docs/security.md is stale: go test ./internal/connect -run Documented -update")
}
