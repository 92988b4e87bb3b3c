package breaker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What each order does, on a breaker that is closed and on one that is open, with and without commits in the journal.
func TestOverrides(t *testing.T) {
	tests := []struct {
		order   Override
		open    bool
		storage Storage
		level   Level
		direct  bool
	}{
		{Hold, false, stored(0, 0), Normal, true},
		{Hold, false, stored(10, 1), Journal, true},
		{Hold, false, stored(700, 1), Throttled, true},
		{Hold, true, stored(0, 0), Journal, false},
		{Hold, true, stored(1000, 1), Paused, false},
		{ForceOpen, false, stored(0, 0), Journal, false},
		{ForceOpen, false, stored(10, 1), Journal, false},
		{ForceOpen, false, stored(700, 0), Throttled, false},
		{ForceOpen, true, stored(0, 0), Journal, false},
		{ForceOpen, true, stored(1000, 1), Paused, false},
		{ForceClose, false, stored(0, 0), Normal, true},
		{ForceClose, false, stored(10, 1), Journal, true},
		{ForceClose, true, stored(0, 0), Normal, true},
		{ForceClose, true, stored(10, 1), Journal, true},
		{ForceClose, true, stored(700, 1), Throttled, true},
		{ForceClose, true, stored(1000, 1), Paused, true}, // no order makes room
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
			require.Equal(t, test.order, r.Status().Override.Override)
			r.Override(test.order, "bob", "again")
			require.Len(t, r.Changes(0), before+1, "an order in force is no news")

			r.Override(Automatic, "bob", "")
			r.at(was, direct)
			require.True(t, strings.HasPrefix(r.last().Reason, "override lifted by bob"), r.last().Reason)
			require.Nil(t, r.Status().Override)
			require.Equal(t, len(r.Changes(0)), r.lines())
		})
	}
}

func TestHoldFreezesWhatIs(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(Hold, "ann", "")
		r.away()
		r.pass(10 * time.Second)
		r.journal(stored(1000, 5))
		r.at(Normal, true)
		r.breakerAt("open")
		r.Override(Automatic, "ann", "")
		r.at(Paused, false, "override lifted by ann; 3 probe rounds in a row failed")

		r.Override(Hold, "ann", "")
		r.back()
		r.journal(stored(0, 0))
		r.pass(2 * time.Minute)
		r.breakerAt("closed")
		r.at(Paused, false)
		r.Override(Automatic, "ann", "")
		r.at(Normal, true, "override lifted by ann; 5 probes in a row succeeded")
	})
}

func TestForceOpenOutlastsTheProbes(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.open()
		r.Override(ForceOpen, "ann", "maintenance")
		r.pass(10 * time.Minute)
		r.breakerAt("closed")
		r.at(Journal, false)
		r.journal(stored(700, 9))
		r.at(Throttled, false, "the journal is over its soft limit")
		r.away() // the breaker opens beneath
		r.pass(5 * time.Second)
		r.Override(Automatic, "ann", "")
		r.at(Throttled, false)
		r.breakerAt("open")
	})
}

func TestForceCloseStillCounts(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(ForceClose, "ann", "the pings lie")
		r.away()
		r.reports(50, errRefused)
		r.pass(time.Minute)
		r.reports(50, errRefused)
		r.at(Normal, true)
		require.Equal(t, Totals{Failed: 100, LastError: "connection refused"}, untimed(r.Status().Totals))
		require.InDelta(t, 1, r.Status().Signals.FailedPings, 0)
		r.journal(stored(10, 2))
		r.at(Journal, true, "2 commits wait in the journal")
		r.journal(stored(0, 0))
		r.pass(2 * time.Second)
		r.at(Normal, true, "the journal is drained")
		r.Override(Automatic, "ann", "")
		r.at(Journal, false)
	})
}

func TestOrderFromOneToAnother(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.Override(ForceOpen, "ann", "")
		r.Override(Hold, "ann", "")
		r.Override(ForceClose, "ann", "")
		r.at(Normal, true)
		r.Override(Hold, "ann", "")
		r.open()
		r.at(Normal, true)
		r.Override("auto", "ann", "")
		r.at(Journal, false)
		require.Len(t, r.Changes(0), 5)
		r.Override("shut", "ann", "")
		require.Len(t, r.Changes(0), 5)
		require.Contains(t, r.log.String(), "want auto, hold, open or close")
	})
}

func TestOrdersAtOnce(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		orders := []Override{ForceOpen, ForceClose, Hold, Automatic}
		for i := range 100 {
			go r.Override(orders[i%4], string(orders[i%4]), "")
		}
		synctest.Wait()
		for _, c := range r.Changes(0) {
			if c.Override == Automatic {
				require.Contains(t, c.Reason, "override lifted")
			} else {
				require.Contains(t, c.Reason, "override "+string(c.Override)+" by "+string(c.Override))
			}
		}
	})
}

func TestParseOverride(t *testing.T) {
	for text, want := range map[string]Override{"": Automatic, "auto": Automatic, "hold": Hold, "open": ForceOpen, "close": ForceClose} {
		got, err := ParseOverride(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ParseOverride("closed")
	require.ErrorContains(t, err, `override is "closed"; want auto, hold, open or close`)
}
