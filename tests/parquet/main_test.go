package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/wal"
)

// TestRowsComeBack reads archived windows back and holds every row against the published one, byte for byte.
func TestRowsComeBack(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeCases(t.Context(), dir, []window{
		{name: "empty"}, {name: "single", events: 1, keys: 1}, {name: "more", events: 6000, keys: 4000},
	}))
	var cases struct {
		Cases []struct{ File, Rows string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &cases))
	require.Len(t, cases.Cases, 3)
	for i, c := range cases.Cases {
		published, err := os.ReadFile(filepath.Join(dir, c.Rows))
		require.NoError(t, err)
		lines := bufio.NewScanner(bytes.NewReader(published))
		prefix := ledger.NewResultPrefix("everything", "hourly", 978310800_000+int64(i)*3600_000, 978314400_000+int64(i)*3600_000, 1)
		overflows := 0
		h, err := archive.NewDir(wal.OS, dir).Read(t.Context(), c.File, func(got ledger.Content) error {
			require.True(t, lines.Scan())
			require.Equal(t, lines.Text(), string(prefix.Append(nil, i+1, got)))
			if got.Overflow {
				overflows++
			}
			return nil
		})
		require.NoError(t, err)
		require.False(t, lines.Scan(), "a published row is not in the file")
		require.Equal(t, int64([]int{0, 1, 4000}[i]), h.Keys)
		if i == 2 {
			require.Positive(t, overflows)
		}
	}
}
