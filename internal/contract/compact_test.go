package contract

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestCompactIDs(t *testing.T) {
	for id, want := range map[string]string{
		"compact:orders":                         "orders",
		"compact:orders-2026-01-01T03:00:00Z":    "orders",
		"compact:orders-eu-2026-01-01T03:00:00Z": "orders-eu",
		"compact:orders-2026-01-01T03:00:00.5Z":  "orders",
		"compact:orders-2026-01-01":              "orders-2026-01-01",
		"pipeline:orders":                        "",
		"compact:orders-eu":                      "orders-eu",
	} {
		name, ok := CompactOf(id)
		require.Equal(t, want != "", ok, id)
		if ok {
			require.Equal(t, want, name)
			require.Equal(t, want, OwnerOf(id))
		}
	}
	require.True(t, Attached("orders", CompactID("orders")))
	require.False(t, Attached("orders", CompactID("orders-eu")))
}

// A job that was cut off half way and tried again has done what both attempts did.
func TestWhatSeveralAttemptsRolledUp(t *testing.T) {
	var r JobReport
	hour := func(n int64) report.WindowRef { return report.WindowRef{Window: "daily", Start: n} }
	r.Add(CarriedWindow{WindowRef: hour(1), Outcome: CarriedPublished, Revision: 1})
	r.Add(CarriedWindow{WindowRef: hour(2), Outcome: CarriedPublished, Revision: 3})
	require.Nil(t, r.RolledUp(), "it has not come to its end")
	again := *r.Clone()
	again.Add(CarriedWindow{WindowRef: hour(3), Outcome: CarriedPublished, Revision: 1})
	again.Add(CarriedWindow{Rollup: &report.Rollup{Families: []report.RolledFamily{
		{Name: "daily", Published: 1, Unchanged: 7}, {Name: "monthly", Waiting: 1},
	}}})
	require.Equal(t, []report.RolledFamily{
		{Name: "daily", Published: 2, Corrected: 1, Unchanged: 5}, {Name: "monthly", Waiting: 1},
	}, again.RolledUp().Families)
	require.Equal(t, 1, again.Rollup.Families[0].Published, "the report itself is as it was")
	require.Len(t, r.Families, 1)
	require.Equal(t, 1, r.Families[0].First, "a clone is a report of its own")
}
