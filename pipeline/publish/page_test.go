package publish

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

func FuzzPage(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRow(nil, ledger.Content{Key: []byte(`{"k":1}`), Values: []byte(`{}`), Deleted: true}))
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
