package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/wal"
)

// archived is a pipeline p with windows that were archived below dir. add archives one more revision.
type archivedWindows struct {
	t    *testing.T
	dir  string
	log  topics
	spec *spec.Spec
}

func newArchivedWindows(t *testing.T) *archivedWindows {
	s, err := spec.Parse("p.yaml", []byte(`
name: p
source: {topics: [events]}
event: {key: [k], time: {field: at, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: w, size: 1h}]
results: {kafka: {topic: p.windows}}
`))
	require.NoError(t, err)
	a := &archivedWindows{t: t, dir: t.TempDir(), log: topics{}, spec: s}
	_, err = archive.NewDir(wal.OS, a.dir).Mark()
	require.NoError(t, err)
	return a
}

func (a *archivedWindows) row(hour int64, revision int) *ledger.Row {
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: "p", Window: "w", Start: hour * 3600_000, End: (hour + 1) * 3600_000,
		Edition: ledger.Edition, Revision: revision, Reason: ledger.ReasonFinal, Final: true, Algorithm: ledger.ChecksumAlgorithm,
	}
	var sum ledger.Checksum
	sum.AddContent(a.content(revision))
	row.Keys, row.Checksum = 1, sum.String()
	return row
}

func (a *archivedWindows) content(revision int) ledger.Content {
	return ledger.Content{Key: []byte(`{"k":"x"}`), Values: []byte(`{"n":` + string(rune('0'+revision)) + `}`)}
}

func (a *archivedWindows) publish(row *ledger.Row) {
	text, err := json.Marshal(row)
	require.NoError(a.t, err)
	topic := ledger.Topic("p")
	a.log[topic] = append(a.log[topic], source.Record{Key: row.ID().Key(), Value: text})
}

func (a *archivedWindows) archive(hour int64, revision int) (path string) {
	row := a.row(hour, revision)
	schema, err := archive.NewSchema(a.spec)
	require.NoError(a.t, err)
	file, err := archive.NewDir(wal.OS, a.dir).Write(a.t.Context(), schema, row, func(yield func(ledger.Content) error) error {
		return yield(a.content(revision))
	})
	require.NoError(a.t, err)
	row.Archive = &ledger.Archive{File: file.Name, SHA256: file.SHA256, Bytes: file.Bytes, At: 1}
	a.publish(row)
	return filepath.Join(a.dir, file.Name)
}

func (a *archivedWindows) prove() *archiveCheck {
	found, err := proveArchive(a.t.Context(), a.log, "p", a.dir)
	require.NoError(a.t, err)
	return found
}

func TestArchiveVerify(t *testing.T) {
	a := newArchivedWindows(t)
	first := a.archive(0, 1)
	a.archive(0, 2) // a correction: the file of revision 1 is named no more
	second := a.archive(1, 1)
	a.publish(a.row(2, 1)) // not archived yet
	found := a.prove()
	require.Equal(t, 2, found.Files)
	require.Equal(t, 1, found.Unnamed)
	require.Positive(t, found.Bytes)
	require.Empty(t, found.Problems)

	// One is torn by hand, one is gone, and one that no row names is torn, too.
	for _, path := range []string{first, second} {
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(whole[:len(whole)/2:len(whole)/2], whole[len(whole)/2+1:]...), 0o600))
	}
	found = a.prove()
	require.Len(t, found.Problems, 2)
	require.NoError(t, os.Remove(second))
	found = a.prove()
	require.Len(t, found.Problems, 2)
	require.Equal(t, "p/w/1970-01-01T01-00-00Z.r1.parquet", found.Problems[0].File)
	require.Contains(t, found.Problems[0].Detail, "no such file")
	require.Equal(t, "p/w/1970-01-01T00-00-00Z.r1.parquet", found.Problems[1].File)
	require.Contains(t, found.Problems[1].Detail, "damaged archive file")

	var out bytes.Buffer
	require.NoError(t, drawArchiveCheck(&out, found))
	require.Contains(t, out.String(), "1 file with ")
	require.Contains(t, out.String(), "PROBLEM p/w/1970-01-01T01-00-00Z.r1.parquet: ")

	_, err := proveArchive(t.Context(), a.log, "p", t.TempDir())
	require.ErrorContains(t, err, "is no archive on this machine: mount it, or give --dir")
}

func TestArchiveLs(t *testing.T) {
	a := newArchivedWindows(t)
	a.archive(0, 1)
	a.archive(0, 2)
	a.publish(a.row(1, 1))
	open := a.row(2, 1)
	open.Final = false
	a.publish(open)
	var out bytes.Buffer
	require.NoError(t, listArchived(t.Context(), &shell{out: &out, err: io.Discard}, a.log, "p", listFilter{}))
	require.Regexp(t, `(?s)^WINDOW +START.*\nw +1970-01-01T00:00:00Z +2 .*p/w/1970-01-01T00-00-00Z.r2.parquet\nw +1970-01-01T01:00:00Z +1 +1 +- +- +- +-\n$`, out.String())
	out.Reset()
	require.NoError(t, listArchived(t.Context(), &shell{out: &out, err: io.Discard, json: true}, a.log, "p", listFilter{last: 1}))
	var rows []ledger.Row
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
	require.Len(t, rows, 1)
	require.Nil(t, rows[0].Archive)
}
