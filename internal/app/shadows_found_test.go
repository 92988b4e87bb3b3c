package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow/diff"
)

func TestDetailOf(t *testing.T) {
	w := diff.Wrong{Place: report.PlaceView, Detail: "keys: 1 missing", Keys: []json.RawMessage{[]byte(`{"k":1}`), []byte(`{"k":2}`)}}
	require.Equal(t, `view: keys: 1 missing; keys {"k":1} {"k":2}`, detailOf(&w))
	w.Keys = nil
	for range diff.MaxWrongKeys {
		w.AddKey([]byte(`"` + strings.Repeat("x", 30+len(w.Keys)) + `"`))
	}
	text := detailOf(&w)
	require.LessOrEqual(t, len(text), contract.MaxWrongDetail+len(" and 20 more"))
	require.Regexp(t, ` and \d+ more$`, text)
	require.Equal(t, contract.PlaceLedger, report.PlaceLedger)
	require.Equal(t, contract.PlaceView, report.PlaceView)
	require.Equal(t, contract.PlaceResults, report.PlaceResults)
	require.Equal(t, contract.PlaceStates, report.PlaceStates)
}
