package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// endless is a text without an end.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// TestEndlessInput is read up to a limit, wherever it comes from.
func TestEndlessInput(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err == nil {
		code, _, errs := millrace(t, "spec", "check", "/dev/zero")
		require.Equal(t, ExitUsage, code)
		require.Contains(t, errs, "is longer than 1 MiB")
	}

	path := filepath.Join(t.TempDir(), "bomb.jsonl.gz")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.Copy(z, io.MultiReader(bytes.NewReader([]byte("{}\n")), io.LimitReader(endless('x'), maxLine+1)))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Less(t, packed.Len(), maxLine/100)
	require.NoError(t, os.WriteFile(path, packed.Bytes(), 0o600))
	l, err := openLines(path)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next()
	require.NoError(t, err)
	_, err = l.Next()
	require.ErrorContains(t, err, "line 2 of "+path+" has more than")

	sh := &shell{err: io.Discard}
	require.False(t, agreed(t.Context(), sh, "yes", endless('y')))
}

func TestLongLinesAreWhole(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<20)
	l := &lines{in: bufio.NewReaderSize(bytes.NewReader(append(append(long, '\n'), 'y')), 1<<18)}
	got, err := l.Next()
	require.NoError(t, err)
	require.Equal(t, long, got)
	got, err = l.Next()
	require.NoError(t, err)
	require.Equal(t, "y", string(got))
	_, err = l.Next()
	require.ErrorIs(t, err, io.EOF)
}
