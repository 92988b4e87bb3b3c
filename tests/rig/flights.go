package rig

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/tests/long"
	"millrace/tests/oracle"
)

var flightsOnce = sync.OnceValues(func() (yaml string, lines [][]byte) {
	dir := filepath.Join(root, "examples", "flights")
	text, err := os.ReadFile(filepath.Join(dir, "flights.yaml"))
	if err != nil {
		return "", nil
	}
	f, err := os.Open(filepath.Join(dir, "flights-2001-01.jsonl.gz"))
	if err != nil {
		return "", nil
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", nil
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return "", nil
	}
	return string(text), oracle.Lines(data)
})

// Flights is the example of the repository: its spec, and the first most lines of its input; 0 is all of them.
func Flights(t *testing.T, most int) (yaml string, lines [][]byte) {
	t.Helper()
	yaml, lines = flightsOnce()
	require.NotEmpty(t, lines)
	if most > 0 && !long.Wanted {
		lines = lines[:most]
	}
	return yaml, lines
}
