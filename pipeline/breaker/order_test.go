package breaker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// What each order does, on a breaker that is closed and on one that is open, with and without commits in the journal.
func TestOverrides(t *testing.T) {
	tests := []struct {
		order   report.Override
		open    bool
		storage Storage
		level   report.Level
		direct  bool
	}{
		{report.OverrideHold, false, stored(0, 0), report.LevelNormal, true},
		{report.OverrideHold, false, stored(10, 1), report.LevelJournal, true},
		{report.OverrideHold, false, stored(700, 1), report.LevelThrottled, true},
		{report.OverrideHold, true, stored(0, 0), report.LevelJournal, false},
		{report.OverrideHold, true, stored(1000, 1), report.LevelPaused, false},
		{report.OverrideOpen, false, stored(0, 0), report.LevelJournal, false},
		{report.OverrideOpen, false, stored(10, 1), report.LevelJournal, false},
		{report.OverrideOpen, false, stored(700, 0), report.LevelThrottled, false},
		{report.OverrideOpen, true, stored(0, 0), report.LevelJournal, false},
		{report.OverrideOpen, true, stored(1000, 1), report.LevelPaused, false},
		{report.OverrideClose, false, stored(0, 0), report.LevelNormal, true},
		{report.OverrideClose, false, stored(10, 1), report.LevelJournal, true},
		{report.OverrideClose, true, stored(0, 0), report.LevelNormal, true},
		{report.OverrideClose, true, stored(10, 1), report.LevelJournal, true},
		{report.OverrideClose, true, stored(700, 1), report.LevelThrottled, true},
		{report.OverrideClose, true, stored(1000, 1), report.LevelPaused, true}, // no order makes room
	}
	for _, test := range tests {
		inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
			r.journal(test.storage)
			if test.open {
				r.open()
			}
			was, direct, before := r.Level(), r.Direct(), len(r.Changes(0))
			r.Override(test.order, "ann", "INC-7")
			r.at(test.level, test.direct)
			require.Len(t, r.Changes(0), before+1)
			c := r.last()
			require.Equal(t, "override "+string(test.order)+" by ann: INC-7", c.Reason)
			require.Equal(t, test.order, c.Override)
			require.Equal(t, test.order, r.Status().Override)
			r.Override(test.order, "bob", "again")
			require.Len(t, r.Changes(0), before+1, "an order in force is no news")

			r.Override(report.OverrideNone, "bob", "")
			r.at(was, direct)
			require.True(t, strings.HasPrefix(r.last().Reason, "override lifted by bob"), r.last().Reason)
			require.Nil(t, r.Status().Order)
			require.Equal(t, len(r.Changes(0)), r.lines())
		})
	}
}

func TestHoldFreezesWhatIs(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(report.OverrideHold, "ann", "")
		r.away()
		r.pass(10 * time.Second)
		r.journal(stored(1000, 5))
		r.at(report.LevelNormal, true)
		r.breakerAt("open")
		r.Override(report.OverrideNone, "ann", "")
		r.at(report.LevelPaused, false, "override lifted by ann; 3 probe rounds in a row failed")

		r.Override(report.OverrideHold, "ann", "")
		r.back()
		r.journal(stored(0, 0))
		r.pass(2 * time.Minute)
		r.breakerAt("closed")
		r.at(report.LevelPaused, false)
		r.Override(report.OverrideNone, "ann", "")
		r.at(report.LevelNormal, true, "override lifted by ann; 5 probes in a row succeeded")
	})
}

func TestForceOpenOutlastsTheProbes(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.open()
		r.Override(report.OverrideOpen, "ann", "maintenance")
		r.pass(10 * time.Minute)
		r.breakerAt("closed")
		r.at(report.LevelJournal, false)
		r.journal(stored(700, 9))
		r.at(report.LevelThrottled, false, "the journal is over its soft limit")
		r.away() // the breaker opens beneath
		r.pass(5 * time.Second)
		r.Override(report.OverrideNone, "ann", "")
		r.at(report.LevelThrottled, false)
		r.breakerAt("open")
	})
}

func TestForceCloseStillCounts(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(report.OverrideClose, "ann", "the pings lie")
		r.away()
		r.reports(50, errRefused)
		r.pass(time.Minute)
		r.reports(50, errRefused)
		r.at(report.LevelNormal, true)
		require.Equal(t, Totals{Failed: 100, LastError: "connection refused"}, untimed(r.Status().Totals))
		require.InDelta(t, 1, r.Status().Signals.FailedPings, 0)
		r.journal(stored(10, 2))
		r.at(report.LevelJournal, true, "2 commits wait in the journal")
		r.journal(stored(0, 0))
		r.pass(2 * time.Second)
		r.at(report.LevelNormal, true, "the journal is drained")
		r.Override(report.OverrideNone, "ann", "")
		r.at(report.LevelJournal, false)
	})
}

func TestOrderFromOneToAnother(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(report.OverrideOpen, "ann", "")
		r.Override(report.OverrideHold, "ann", "")
		r.Override(report.OverrideClose, "ann", "")
		r.at(report.LevelNormal, true)
		r.Override(report.OverrideHold, "ann", "")
		r.open()
		r.at(report.LevelNormal, true)
		r.Override("auto", "ann", "")
		r.at(report.LevelJournal, false)
		require.Len(t, r.Changes(0), 5)
		require.ErrorContains(t, r.Override("shut", "ann", ""), "want auto, hold, open or close")
		require.Len(t, r.Changes(0), 5)
	})
}

func TestOrdersAtOnce(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		orders := []report.Override{report.OverrideOpen, report.OverrideClose, report.OverrideHold, report.OverrideNone}
		for i := range 100 {
			go r.Override(orders[i%4], string(orders[i%4]), "")
		}
		synctest.Wait()
		for _, c := range r.Changes(0) {
			if c.Override == report.OverrideNone {
				require.Contains(t, c.Reason, "override lifted")
			} else {
				require.Contains(t, c.Reason, "override "+string(c.Override)+" by "+string(c.Override))
			}
		}
	})
}

func TestParseOverride(t *testing.T) {
	for text, want := range map[string]report.Override{"": report.OverrideNone, "auto": report.OverrideNone, "hold": report.OverrideHold, "open": report.OverrideOpen, "close": report.OverrideClose} {
		got, err := report.ParseOverride(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := report.ParseOverride("closed")
	require.ErrorContains(t, err, `override is "closed"; want auto, hold, open or close`)
}
