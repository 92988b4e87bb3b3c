package publish

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

func FuzzPage(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRow(nil, ledger.Content{Key: []byte(`{"k":1}`), Values: []byte(`{}`), Deleted: true}))
	f.Add(appendRow(appendRow(nil, ledger.Content{Key: []byte("k")}), ledger.Content{Key: []byte("l"), Values: []byte(`{}`), State: []byte("s")}))
	f.Add([]byte{pageFormat, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, page []byte) {
		var again []byte
		err := eachRow(page, func(c ledger.Content) error {
			again = appendRow(again, c)
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, ErrPage)
			return
		}
		var rows int
		if len(again) > 0 {
			require.NoError(t, eachRow(again, func(ledger.Content) error { rows++; return nil }))
			require.LessOrEqual(t, len(again), len(page))
		}
	})
}

// Earlier versions read pages without states, and refuse those with states by their format.
func TestPagesWithoutStatesAreOfTheFirstFormat(t *testing.T) {
	row := ledger.Content{Key: []byte("k"), Values: []byte("v"), Overflow: true, Deleted: true}
	require.Equal(t, []byte("\x01\x03\x01k\x01v"), appendRow(nil, row))
	row.State = []byte("s")
	require.Equal(t, []byte("\x02\x03\x01k\x01v\x07\x01k\x01v\x01s"), appendRow([]byte("\x01\x03\x01k\x01v"), row))
	require.ErrorIs(t, eachRow([]byte("\x01\x07\x01k\x01v\x01s"), func(ledger.Content) error { return nil }), ErrPage)
}
