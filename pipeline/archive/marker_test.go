package archive

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestMarker(t *testing.T) {
	d := NewDir(wal.OS, filepath.Join(t.TempDir(), "not", "there"))
	_, err := d.ID()
	require.ErrorIs(t, err, os.ErrNotExist)
	id, err := d.Mark()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(id), 16)
	again, err := NewDir(wal.OS, d.path).Mark()
	require.NoError(t, err)
	require.Equal(t, id, again)
	requireOnly(t, d, markerName)

	other, err := NewDir(wal.OS, t.TempDir()).Mark()
	require.NoError(t, err)
	require.NotEqual(t, id, other)

	require.NoError(t, os.WriteFile(filepath.Join(d.path, markerName), nil, 0o600))
	_, err = d.Mark()
	require.ErrorIs(t, err, ErrDamaged)
}

func TestMarkerFaults(t *testing.T) {
	for _, fault := range []faultfs.Fault{{Write: 1}, {Tear: 1}, {Sync: 1}, {Dir: 1}} {
		fs := faultfs.New(0)
		fs.Inject(fault)
		d := NewDir(fs, "archive")
		_, err := d.Mark()
		require.ErrorIs(t, err, faultfs.ErrInjected)
		id, err := d.Mark()
		require.NoError(t, err)
		require.NotEmpty(t, id)
		require.Len(t, fs.Files(), 1)
	}
}
