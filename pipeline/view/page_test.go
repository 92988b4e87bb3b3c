package view

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

// same reports whether two rows say the same; a state without bytes is none.
func same(a, b ledger.Content) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Values, b.Values) && bytes.Equal(a.State, b.State) &&
		a.Overflow == b.Overflow && a.Deleted == b.Deleted
}

// Whatever the bytes are, EachRow neither panics nor invents rows: what it accepts is written again in no more bytes, and read
// back as it was.
func FuzzPage(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendRow(nil, ledger.Content{Key: []byte(`{"k":1}`), Values: []byte(`{}`), Deleted: true}))
	f.Add(AppendRow(AppendRow(nil, ledger.Content{Key: []byte("k")}), ledger.Content{Key: []byte("l"), Values: []byte(`{}`), State: []byte("s")}))
	f.Add([]byte{pageFormat, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, page []byte) {
		var again []byte
		var rows []ledger.Content
		err := EachRow(page, func(c ledger.Content) error {
			again, rows = AppendRow(again, c), append(rows, c)
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		if len(rows) == 0 {
			return
		}
		require.LessOrEqual(t, len(again), len(page))
		require.NoError(t, EachRow(again, func(c ledger.Content) error {
			require.NotEmpty(t, rows)
			require.True(t, same(rows[0], c), "%v is read back as %v", rows[0], c)
			rows = rows[1:]
			return nil
		}))
		require.Empty(t, rows)
	})
}

// Earlier versions read pages without states, and refuse those with states by their format.
func TestPagesWithoutStatesAreOfTheFirstFormat(t *testing.T) {
	row := ledger.Content{Key: []byte("k"), Values: []byte("v"), Overflow: true, Deleted: true}
	require.Equal(t, []byte("\x01\x03\x01k\x01v"), AppendRow(nil, row))
	row.State = []byte("s")
	require.Equal(t, []byte("\x02\x03\x01k\x01v\x07\x01k\x01v\x01s"), AppendRow([]byte("\x01\x03\x01k\x01v"), row))
	require.ErrorIs(t, EachRow([]byte("\x01\x07\x01k\x01v\x01s"), func(ledger.Content) error { return nil }), ErrCorrupt)
}
