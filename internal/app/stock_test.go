package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
)

func TestCountStock(t *testing.T) {
	s, err := spec.Parse("a.yaml", []byte(removableSpec+"rollups: [{name: daily, from: hourly, calendar: day, retention: 10d}]\n"))
	require.NoError(t, err)
	const results = 7
	s.Retention.Results = spec.Duration(results * 24 * time.Hour)
	at := time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)
	day := int64(24 * time.Hour / time.Millisecond)
	ago := func(days int64) int64 { return at.UnixMilli() - days*day }
	rows := make(map[ledger.WindowID]ledger.Row)
	add := func(window string, closedAt int64, final bool, archived int64) {
		row := ledger.Row{Window: window, Start: int64(len(rows)) * day, Final: final, ClosedAt: closedAt}
		if archived > 0 {
			row.Archive = &ledger.Archive{Bytes: 100, At: archived}
		}
		rows[row.ID()] = row
	}
	add("hourly", ago(0), true, 0)
	add("hourly", ago(results), true, 0)   // expires this moment
	add("hourly", ago(results+5), true, 0) // long ago
	add("hourly", ago(results+5), false, 0)
	add("daily", ago(results), true, 0)
	add("daily", ago(10), true, 0)
	add("other", ago(0), true, 0)
	since := at.Add(-48 * time.Hour)
	require.Equal(t, []contract.StockFamily{
		{Name: "hourly", Windows: 4, Kept: 2, Expired: 2, ExpiredSince: 1}, {Name: "daily", Windows: 2, Kept: 1, Expired: 1, ExpiredSince: 1},
	}, countStock(s, rows, at, since).Families)
	require.Zero(t, countStock(s, rows, at, time.Time{}).Families[0].ExpiredSince, "nobody knows since when")

	// What is to be archived does not expire before it is in the archive.
	s.Archive = &spec.Archive{Dir: "/archive"}
	add("hourly", ago(results+5), true, ago(1))
	add("hourly", ago(results+5), true, ago(4))
	require.Equal(t, contract.StockFamily{
		Name: "hourly", Windows: 6, Kept: 4, Expired: 2, ExpiredSince: 1, BytesFreed: 100, Archived: 2, ArchivedBytes: 200,
	}, countStock(s, rows, at, since).Families[0])
}
