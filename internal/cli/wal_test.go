package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
)

func TestWAL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wal")
	code, _, errs := millrace(t, "wal", "ls", dir)
	require.Equal(t, ExitUsage, code, errs)

	l, _, err := wal.Open(wal.Config{Dir: dir, Worker: "w1", SegmentSize: wal.MinSegmentSize})
	require.NoError(t, err)
	for i := 1; i <= 100; i++ {
		rec := wal.Record{Stream: []byte("p/t/" + string(rune('0'+i%2))), Chain: []byte("3:abc"), Place: wal.Place{Seq: uint64(i)}, Pos: int64(i), Data: make([]byte, 1500)}
		_, err = l.Append(context.Background(), rec)
		require.NoError(t, err)
	}
	code, out, errs := millrace(t, "wal", "verify", dir)
	require.Equal(t, ExitOK, code, errs, "beside its writer")
	require.Contains(t, out, "100 records")
	code, _, errs = millrace(t, "wal", "trim", dir, "--before", "50")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, errs, `worker "w1"`)
	require.NoError(t, l.Close())

	code, out, _ = millrace(t, "wal", "ls", dir)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "p/t/1")
	require.Contains(t, out, "next index 101")
	code, out, _ = millrace(t, "wal", "dump", dir, "--stream", "p/t/1", "--json", "--limit", "3", "--from", "10")
	require.Equal(t, ExitOK, code)
	records := jsonList(t, out)
	require.Len(t, records, 3)
	require.JSONEq(t, `{"index":11,"stream":"p/t/1","chain":"3:abc","place":"11.0","pos":11,"bytes":1500}`, string(records[0]))
	code, out, _ = millrace(t, "wal", "dump", dir, "--json", "--from", "1000")
	require.Equal(t, ExitOK, code)
	require.Equal(t, "[]\n", out)
	code, out, _ = millrace(t, "wal", "dump", dir)
	require.Equal(t, ExitOK, code)
	require.Equal(t, 100, strings.Count(out, "\n"))

	code, _, _ = millrace(t, "wal", "trim", dir)
	require.Equal(t, ExitUsage, code)
	code, out, errs = millrace(t, "wal", "trim", dir, "--before", "70")
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, out, "1 segment of 3 left")
	code, out, _ = millrace(t, "wal", "dump", dir, "--json")
	require.Equal(t, ExitOK, code)
	require.Len(t, jsonList(t, out), 31)

	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	data, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	data[20_000] ^= 1
	require.NoError(t, os.WriteFile(segments[0], data, 0o600))
	code, out, _ = millrace(t, "wal", "verify", dir)
	require.Equal(t, ExitIncomplete, code)
	require.Contains(t, out, "CORRUPT")
	code, out, _ = millrace(t, "wal", "verify", dir, "--json")
	require.Equal(t, ExitIncomplete, code)
	require.Contains(t, out, `"corrupt":[{`)
	code, out, _ = millrace(t, "wal", "dump", dir, "--data")
	require.Equal(t, ExitIncomplete, code)
	require.Contains(t, out, "CORRUPT")

	code, out, _ = millrace(t, "wal", "ls", dir)
	require.Equal(t, ExitOK, code)
	require.NotContains(t, out, "COPY", "looking copies nothing")
	l, _, err = wal.Open(wal.Config{Dir: dir, SegmentSize: wal.MinSegmentSize})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	code, out, _ = millrace(t, "wal", "ls", dir)
	require.Equal(t, ExitOK, code)
	require.Regexp(t, `(?m)^corrupt/\S+\.corrupt +\d+ .* until its records are decided about$`, out)
	require.Contains(t, out, "bytes of unreadable parts in 1 file")
}
