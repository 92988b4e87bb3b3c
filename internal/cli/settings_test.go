package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
)

// TestVersionWithoutSettings: which build this is, and completions, do not depend on a configuration that is right.
func TestVersionWithoutSettings(t *testing.T) {
	t.Setenv(connect.EnvConfig, "/none.yaml")
	for _, args := range [][]string{{"version"}, {"completion", "bash"}, {"status", "--help"}} {
		code, _, errs := millrace(t, args...)
		require.Zero(t, code, "%v: %s", args, errs)
	}
	code, _, errs := millrace(t, "status", "shops")
	require.Equal(t, ExitUsage, code)
	require.Equal(t, "millrace: configuration file open /none.yaml: no such file or directory\n", errs)
}
