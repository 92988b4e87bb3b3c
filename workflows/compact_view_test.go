package workflows

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestUnfinishedWindowsAreListedUnderOneHeading(t *testing.T) {
	var b strings.Builder
	showUnfinished(&b, "waiting", nil)
	require.Empty(t, b.String())

	day := report.Unfinished{Window: "daily", Child: "hourly", Runs: 1, Why: "it is not final"}
	showUnfinished(&b, "waiting", []report.Unfinished{day, day, day, day, day, day, day})
	require.True(t, strings.HasPrefix(b.String(), "\nwaiting:\n\n- daily 1970-01-01T00:00:00Z waits for hourly "+
		"1970-01-01T00:00:00Z: it is not final\n"), b.String())
	require.Equal(t, shownUnfinished, strings.Count(b.String(), "- daily"))
	require.True(t, strings.HasSuffix(b.String(), "- and 2 more\n"), b.String())
}
