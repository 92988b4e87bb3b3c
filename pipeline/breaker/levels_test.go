package breaker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// stored is a journal with limits 600 and 1000 bytes.
func stored(used, pending int64) Storage {
	return Storage{
		Used: used, SoftLimit: 600, HardLimit: 1000, Soft: used >= 600, Hard: used >= 1000,
		PendingCommits: pending, PendingBytes: used,
	}
}

// Every transition there is, with its reason.
func TestTransitions(t *testing.T) {
	long := 2 * time.Second
	tests := []struct {
		name     string
		first    func(r *rig) // to the level it starts from
		from, to report.Level
		then     func(r *rig)
		reason   string
		direct   bool
	}{
		{"breaker opens", func(r *rig) { r.journal(stored(0, 0)) }, report.LevelNormal, report.LevelJournal, (*rig).open,
			"a partition assignment took 1m0s, more than 5s", false},
		{"commits wait", func(r *rig) { r.journal(stored(0, 0)) }, report.LevelNormal, report.LevelJournal, func(r *rig) { r.journal(stored(10, 3)) },
			"3 commits wait in the journal", true},
		{"breaker opens, journal over its soft limit for others", func(r *rig) { r.journal(stored(700, 0)) }, report.LevelNormal, report.LevelThrottled, (*rig).open,
			"a partition assignment took 1m0s, more than 5s; the journal is over its soft limit", false},
		{"breaker opens, journal full for others", func(r *rig) { r.journal(stored(1000, 0)) }, report.LevelNormal, report.LevelPaused, (*rig).open,
			"a partition assignment took 1m0s, more than 5s; the journal is at its hard limit, out of space or failed", false},
		{"breaker opens, no journal", func(*rig) {}, report.LevelNormal, report.LevelPaused, (*rig).open,
			"a partition assignment took 1m0s, more than 5s; there is no journal", false},
		{"breaker opens, no journal any more, but commits wait in it", func(r *rig) { r.say(Storage{PendingCommits: 2}) }, report.LevelJournal, report.LevelPaused,
			(*rig).open, "a partition assignment took 1m0s, more than 5s; there is no journal", false},
		{"over the soft limit", func(r *rig) { r.journal(stored(599, 1)); r.open() }, report.LevelJournal, report.LevelThrottled,
			func(r *rig) { r.journal(stored(600, 2)) }, "the journal is over its soft limit", false},
		{"straight to the hard limit", func(r *rig) { r.journal(stored(599, 1)) }, report.LevelJournal, report.LevelPaused,
			func(r *rig) { r.journal(stored(1000, 2)) }, "the journal is at its hard limit, out of space or failed", true},
		{"to the hard limit", func(r *rig) { r.journal(stored(600, 1)); r.open() }, report.LevelThrottled, report.LevelPaused,
			func(r *rig) { r.journal(stored(1000, 2)) }, "the journal is at its hard limit, out of space or failed", false},
		{"the disk fails", func(r *rig) { r.journal(stored(10, 1)); r.open() }, report.LevelJournal, report.LevelPaused,
			func(r *rig) {
				r.journal(Storage{Hard: true, Used: 10, SoftLimit: 600, HardLimit: 1000, PendingCommits: 1})
			},
			"the journal is at its hard limit, out of space or failed", false},
		{"below the hard limit", func(r *rig) { r.journal(stored(1000, 1)) }, report.LevelPaused, report.LevelThrottled,
			func(r *rig) { r.journal(stored(960, 1)); r.pass(long) }, "the journal can take more again", true},
		{"below the soft limit", func(r *rig) { r.journal(stored(700, 1)) }, report.LevelThrottled, report.LevelJournal,
			func(r *rig) { r.journal(stored(540, 1)); r.pass(long) }, "the journal is below its soft limit again", true},
		{"below both", func(r *rig) { r.journal(stored(1000, 1)) }, report.LevelPaused, report.LevelJournal,
			func(r *rig) { r.journal(stored(100, 1)); r.pass(long) }, "the journal is below its soft limit again", true},
		{"drained", func(r *rig) { r.journal(stored(10, 1)) }, report.LevelJournal, report.LevelNormal,
			func(r *rig) { r.journal(stored(0, 0)); r.pass(long) }, "the journal is drained", true},
		{"drained while over the soft limit for others", func(r *rig) { r.journal(stored(700, 1)) }, report.LevelThrottled, report.LevelNormal,
			func(r *rig) { r.journal(stored(700, 0)); r.pass(long) }, "the journal is drained", true},
		{"drained while full for others", func(r *rig) { r.journal(stored(1000, 1)) }, report.LevelPaused, report.LevelNormal,
			func(r *rig) { r.journal(stored(1000, 0)); r.pass(long) }, "the journal is drained", true},
		{"breaker closes, nothing was journalled", func(r *rig) { r.journal(stored(0, 0)); r.open() }, report.LevelJournal, report.LevelNormal,
			func(r *rig) { r.pass(63 * time.Second) }, "5 probes in a row succeeded", true},
		{"breaker closes, no journal", (*rig).open, report.LevelPaused, report.LevelNormal,
			func(r *rig) { r.pass(63 * time.Second) }, "5 probes in a row succeeded", true},
		{"a journal comes to be", (*rig).open, report.LevelPaused, report.LevelJournal, func(r *rig) { r.journal(stored(0, 0)) }, "there is a journal now", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
				test.first(r)
				require.Equal(t, test.from, r.Level())
				before := len(r.Changes(0))
				test.then(r)
				r.at(test.to, test.direct)
				require.Len(t, r.Changes(0), before+1)
				c := r.last()
				require.Equal(t, test.reason, c.Reason)
				require.Equal(t, test.from, c.From)
				require.Equal(t, test.to, c.To)
				require.Equal(t, test.reason, r.Status().Reason)
				require.Equal(t, int64(1), r.Status().Entered[test.to])
				require.Equal(t, before+1, r.lines())
			})
		})
	}
}

// An outage from its beginning to its end, as histories tell it.
func TestOutage(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(0, 0))
		r.away()
		r.pass(4 * time.Second)
		r.at(report.LevelJournal, false)
		r.journal(stored(650, 40))
		r.at(report.LevelThrottled, false)
		r.journal(stored(1000, 60))
		r.at(report.LevelPaused, false)
		r.back()
		r.pass(65 * time.Second)
		r.at(report.LevelPaused, true)
		r.journal(stored(800, 45))
		r.pass(2 * time.Second)
		r.at(report.LevelThrottled, true)
		r.journal(stored(300, 20))
		r.pass(2 * time.Second)
		r.at(report.LevelJournal, true)
		r.journal(stored(0, 0))
		r.pass(2 * time.Second)
		r.at(report.LevelNormal, true)
		var levels []report.Level
		for i, c := range r.Changes(0) {
			require.Equal(t, int64(i+1), c.Seq)
			levels = append(levels, c.To)
		}
		require.Equal(t, []report.Level{report.LevelJournal, report.LevelThrottled, report.LevelPaused, report.LevelThrottled, report.LevelJournal, report.LevelNormal}, levels)
		require.InDelta(t, 1000, measured(t, r.Changes(2)[0], "wal_used_bytes"), 0)
		require.InDelta(t, 60, measured(t, r.Changes(2)[0], "pending_commits"), 0)
	})
}

// Around a limit, and with commits that wait for moments, the level does not flap.
func TestHysteresis(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		for range 100 {
			r.journal(stored(601, 1))
			r.journal(stored(580, 1))
			r.pass(2 * time.Second)
		}
		require.Len(t, r.Changes(0), 1, "580 is not far enough below 600")
		for range 100 {
			r.journal(stored(540, 1))
			r.pass(500 * time.Millisecond)
			r.journal(stored(560, 1))
		}
		require.Len(t, r.Changes(0), 1, "540 is, but not for long enough")
		for range 100 {
			r.journal(stored(1000, 1))
			r.journal(stored(970, 1))
			r.pass(2 * time.Second)
		}
		require.Len(t, r.Changes(0), 2, "970 is not far enough below 1000")
		r.journal(stored(540, 1))
		r.pass(2 * time.Second)
		r.at(report.LevelJournal, true)
		for range 100 {
			r.journal(stored(0, 0))
			r.journal(stored(1, 1))
		}
		r.at(report.LevelJournal, true)
		require.Len(t, r.Changes(0), 3)
	})
}
