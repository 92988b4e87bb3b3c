package result_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
)

// What lasts is an incident of the kind that the lane's next owner parks with.
func TestKindOfALoss(t *testing.T) {
	for err, kind := range map[error]string{
		store.ErrPartialLoss: "incident state-lost", agg.ErrEntryCorrupt: "incident corrupt-state", store.ErrCorrupt: "incident corrupt-state",
	} {
		loss := &result.LossError{Err: fmt.Errorf("lane a/b/0: %w", err), Lasting: true}
		require.Contains(t, loss.Error(), kind)
		loss.Lasting = false
		require.NotContains(t, loss.Error(), "incident")
	}
}
