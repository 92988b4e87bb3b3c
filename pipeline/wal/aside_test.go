package wal_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
)

// month is longer than copies are kept.
const month = 31 * 24 * time.Hour

// sweep returns what a sweep at now deletes, and which copies are left: their names, and whether they are held.
func sweep(t *testing.T, l *wal.Log, now time.Time) (deleted []string, left map[string]bool) {
	t.Helper()
	gone, err := l.SweepAside(now)
	require.NoError(t, err)
	for _, c := range gone {
		deleted = append(deleted, filepath.Ext(c.File))
	}
	copies, err := l.Aside()
	require.NoError(t, err)
	left = map[string]bool{}
	for _, c := range copies {
		left[filepath.Ext(c.File)] = c.Held
	}
	return deleted, left
}

func TestCopiesGoWhenTheyAreOldAndDecided(t *testing.T) {
	p := newPatient(t, 120, 1000, false)
	p.in(3, flip(300, 8))
	p.in(120, func(b []byte) { clear(b[512:1056]) })
	l, rep := open(t, p.cfg)
	require.Len(t, rep.Corrupt, 1)
	require.NotNil(t, rep.Torn)
	now := time.Now()
	deleted, left := sweep(t, l, now)
	require.Empty(t, deleted)
	require.Equal(t, map[string]bool{".corrupt": true, ".torn": false}, left)

	deleted, left = sweep(t, l, now.Add(month))
	require.Equal(t, []string{".torn"}, deleted, "it was never acknowledged")
	require.Equal(t, map[string]bool{".corrupt": true}, left, "nobody has decided about the records around it")

	l.Release([]byte("a"), 110)
	eventually(t, func() bool {
		copies, err := l.Aside()
		require.NoError(t, err)
		return len(copies) == 1 && !copies[0].Held
	})
	deleted, _ = sweep(t, l, now)
	require.Empty(t, deleted)
	deleted, left = sweep(t, l, now.Add(month))
	require.Equal(t, []string{".corrupt"}, deleted)
	require.Empty(t, left)
	require.Equal(t, uint64(2), l.Stats().AsideDeleted)
	require.Positive(t, l.Stats().AsideDeletedBytes)
}

func TestOldestCopiesGoFirst(t *testing.T) {
	p := newPatient(t, 150, 1000, true)
	for _, i := range []int{10, 20, 30, 140} { // the last one in a segment that stays
		p.in(i, flip(300, 8))
	}
	probe, _ := open(t, p.cfg)
	copies, err := probe.Aside()
	require.NoError(t, err)
	require.Len(t, copies, 4)
	require.NoError(t, probe.Close())

	p.cfg.AsideLimit = 2 * copies[0].Bytes
	l, _ := open(t, p.cfg)
	deleted, _ := sweep(t, l, time.Now())
	require.Empty(t, deleted, "all are held, beyond the limit")
	l.Release([]byte("a"), 120)
	eventually(t, func() bool {
		now, err := l.Aside()
		require.NoError(t, err)
		held := 0
		for _, c := range now {
			if c.Held {
				held++
			}
		}
		return held == 1
	})
	gone, err := l.SweepAside(time.Now())
	require.NoError(t, err)
	require.Len(t, gone, 2)
	require.Equal(t, []string{copies[0].File, copies[1].File}, []string{gone[0].File, gone[1].File})
}

// A segment that was moved away whole is the only copy of records that every reader is still told about.
func TestSegmentMovedAwayIsHeldAsLongAsItsGapShows(t *testing.T) {
	p := newPatient(t, 150, 1000, true)
	p.edit(p.segments()[1], garbage)
	l, rep := open(t, p.cfg)
	require.NotEmpty(t, rep.Corrupt)
	_, left := sweep(t, l, time.Now().Add(month))
	require.Equal(t, map[string]bool{".seg": true}, left)
	l.Release([]byte("a"), 50) // the segment before the gap
	_, left = sweep(t, l, time.Now().Add(month))
	require.Equal(t, map[string]bool{".seg": true}, left, "readers still meet the gap")
	l.Release([]byte("a"), 151)
	for i := 151; i <= 220; i++ { // until another segment is in use
		_, err := l.Append(deadline(t), record("a", i, 1000))
		require.NoError(t, err)
	}
	l.Release([]byte("a"), 200)
	eventually(t, func() bool {
		copies, err := l.Aside()
		require.NoError(t, err)
		return len(copies) == 1 && !copies[0].Held
	})
	deleted, _ := sweep(t, l, time.Now().Add(month))
	require.Equal(t, []string{".seg"}, deleted)
}
