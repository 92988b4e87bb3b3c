package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/verify"
)

// What an operator keeps from closing is right as far as it is published, and verify says that no more will be.
func TestVerifySaysThatNoWindowCloses(t *testing.T) {
	for _, tt := range []struct {
		kind string
		says string
		ok   bool
	}{
		{contract.ConditionClosingSuspended, "no window closes: closing-suspended redis: maintenance\neverything agrees\n", true},
		{contract.ConditionOverride, "\neverything agrees\n", true},
		{contract.ConditionTemporalAway, "\neverything agrees\n", true},
		{contract.ConditionDegraded, "\nPROBLEM unhealthy: redis: degraded redis: maintenance\n", false},
	} {
		v := &verify.Report{Pipeline: "orders"}
		addStanding(v, statusView{Pipeline: "orders", Standing: contract.Standing{
			Conditions: []contract.Condition{{Kind: tt.kind, Subject: "redis", Reason: "maintenance"}},
		}})
		require.Equal(t, tt.ok, v.OK(), tt.kind)
		var out strings.Builder
		require.NoError(t, drawVerification(&out, v))
		require.Contains(t, out.String(), tt.says)
		require.Equal(t, tt.kind == contract.ConditionClosingSuspended, len(v.Notes) > 0)
	}
}
