package app

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
)

// A replay with the pipeline's own spec would undo what one with another spec has corrected, which nobody is to find out by
// approving it.
func TestPlanNotesWindowsOfAnotherSpec(t *testing.T) {
	own := plan.Window{Base: &plan.Base{Spec: "own"}}
	corrected := plan.Window{Base: &plan.Base{Spec: "other"}}
	for name, c := range map[string]struct {
		windows []plan.Window
		same    bool
		recount bool
		want    string
	}{
		"nothing corrected": {windows: []plan.Window{own}, same: true},
		"corrected, own spec": {windows: []plan.Window{own, corrected}, same: true,
			want: "1 of the windows were published under another version"},
		"corrected, another spec":      {windows: []plan.Window{corrected}},
		"corrected, and counted again": {windows: []plan.Window{corrected}, same: true, recount: true, want: "than the pipeline has now"},
	} {
		t.Run(name, func(t *testing.T) {
			out := planOf(&plan.Plan{SpecVersion: "own", SameSpec: c.same, Windows: c.windows}, contract.ReplayAsk{Recount: c.recount})
			if c.want == "" {
				require.Empty(t, out.Notes)
				return
			}
			require.Len(t, out.Notes, 1)
			require.Contains(t, out.Notes[0], c.want)
		})
	}
}

// What trying again cannot mend is refused at once; anything else is tried again.
func TestRefusalOfPlan(t *testing.T) {
	away := errors.New("connection refused")
	require.NoError(t, refusalOfPlan(nil))
	require.Equal(t, away, refusalOfPlan(away))
	for _, err := range []error{
		&plan.RefusedError{},
		fmt.Errorf("topic flights.ledger: %w", source.ErrUnknownTopic), // the pipeline was removed
	} {
		refused := refusalOfPlan(err)
		require.ErrorIs(t, refused, activities.ErrRefused)
		require.ErrorContains(t, refused, err.Error())
	}
}
