package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// askingPage is a replay that waits for a decision about one of three windows, while seven others are left out.
func askingPage() *shadowing {
	start := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	until := start.AddDate(0, 0, 7)
	left := contract.LeftWindow{Window: &report.WindowRef{Window: "hourly", Start: start.UnixMilli()}, Detail: "it is not final"}
	return &shadowing{
		in:    contract.ReplayInput{Pipeline: "flights", Spec: []byte(`{}`)},
		ask:   contract.ReplayAsk{ReplayRef: contract.ReplayRef{Pipeline: "flights", ID: "fix-1"}, From: start, To: start.Add(8 * time.Hour)},
		phase: contract.StateAsking, note: "1 of 3 windows differ: 0 keys added, 4 changed, 0 removed", until: &until,
		plan: &contract.ReplayPlan{Windows: 3, Records: 4000, LeftOut: 7, Why: []contract.LeftWindow{left, left, left, left, left, left}},
		summary: &contract.ReplaySummary{Windows: 3, Equal: 2, Differ: 1, Changed: 4, Checksum: "c0ffee",
			Differences: []contract.WindowDifference{{
				WindowRef: report.WindowRef{Window: "hourly", Start: start.UnixMilli()}, Revision: 1, Changed: 4, OldEvents: 84, NewEvents: 85,
			}}},
	}
}

func TestReplayPageSaysWhatIsToBeDecided(t *testing.T) {
	page := askingPage().page()
	require.True(t, strings.HasPrefix(page, "**Waits for your decision.** The replay `fix-1` of **flights** is **asking**: 1 of 3 "+
		"windows differ: 0 keys added, 4 changed, 0 removed.\n"), page)
	for _, text := range []string{
		"Nothing of it is published unless somebody approves; without a decision it is rejected at 2001-01-08T00:00:00Z.",
		"`millrace replay diff flights fix-1` | `show-diff` |",
		"`millrace replay approve flights fix-1 c0ffee` | `approve` |",
		"`millrace replay reject flights fix-1` | `reject` |",
		"It counts windows of **flights** between 2001-01-01T00:00:00Z and 2001-01-01T08:00:00Z again from Kafka with another spec.",
		"| hourly 2001-01-01T00:00:00Z | 1 | 0 | 4 | 0 | 84 | 85 |  |\n",
		"7 windows are left out, because they cannot be counted again now:\n",
		"- and 2 more\n",
	} {
		require.Contains(t, page, text)
	}
	require.Equal(t, 1, strings.Count(page, "1 of 3 windows differ"), "what is asked about is said once")
}

func TestReplayPageAfterTheDecision(t *testing.T) {
	s := askingPage()
	s.phase, s.note, s.until = contract.StateDone, "1 published", nil
	page := s.page()
	require.True(t, strings.HasPrefix(page, "The replay `fix-1` of **flights** is **done**: 1 published\n"), page)
	require.Contains(t, page, "1 of 3 windows differ: 0 keys added, 4 changed, 0 removed\n")
	require.NotContains(t, page, "millrace replay", "there is nothing to do any more")
}

func TestReplayPageSaysWhichEventsAreLate(t *testing.T) {
	for late, change := range map[string]func(*contract.ReplayAsk){
		"Events that were late then are late again.": func(*contract.ReplayAsk) {},
		"Events that were late then are late again, except those in the late topic, which " +
			"count.": func(a *contract.ReplayAsk) { a.FromLate = true },
		"No event is late: whatever has arrived counts.": func(a *contract.ReplayAsk) { a.Lateness = contract.LatenessNone },
	} {
		s := askingPage()
		change(&s.ask)
		require.Contains(t, s.page(), late)
	}
}
